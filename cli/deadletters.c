#include "store/deadletters.h"

#include <stdio.h>

#include "base/digest.h"
#include "base/json.h"
#include "cli/options.h"

struct listing {
    const struct cli_options *o;
    uint32_t shown;
};

static bool on_letter(void *arg, const struct deadletter *d)
{
    struct listing *l = arg;
    struct buf line = {0};

    if (l->o->json) {
        buf_add_byte(&line, '{');
        json_put_u64(&line, "stored-at-us", d->wall_us);
        json_put_str(&line, "source", d->source);
        json_put_str(&line, "message-id", d->message_id);
        json_put_str(&line, "why", d->why);
        json_put_str(&line, "raw", d->raw);
        buf_add_str(&line, "}\n");
    } else {
        text_hex(&line, slice_of(d->id, DEADLETTER_ID_BYTES));
        buf_add_str(&line, "  ");
        json_put_escaped(&line, d->why);
        buf_add_str(&line, "\n    ");
        json_put_escaped(&line, slice_head(d->raw, 200));
        buf_add_byte(&line, '\n');
    }
    (void)fwrite(line.ptr, 1, line.len, stdout);
    buf_fini(&line);
    return ++l->shown < l->o->limit;
}

int cli_deadletters(const struct cli_options *o)
{
    struct config *config;
    struct store *store = cli_store_open(o, &config);
    struct listing l = {.o = o};
    struct err err;
    int verdict = CLI_DONE;

    if (store == NULL)
        return CLI_WRONG_USE;
    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL) {
        (void)fprintf(stderr, "postern deadletters: %s\n", err.text);
        verdict = CLI_WRONG_USE;
    } else {
        deadletter_each(t, on_letter, &l);
        store_end_read(t);
    }
    store_close(store);
    config_free(config);
    return verdict;
}
