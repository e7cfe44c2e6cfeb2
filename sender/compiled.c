#include "sender/compiled.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "shm/record.h"

struct compiled_cache {
    const struct config *config;
    struct compiled *newest, *oldest; /* by last use */
};

struct compiled_cache *compiled_cache_create(const struct config *config)
{
    struct compiled_cache *c = mem_zero(1, sizeof *c);

    c->config = config;
    return c;
}

static void unlink_one(struct compiled_cache *c, struct compiled *one)
{
    if (one->newer != NULL)
        one->newer->older = one->older;
    else
        c->newest = one->older;
    if (one->older != NULL)
        one->older->newer = one->newer;
    else
        c->oldest = one->newer;
    one->newer = one->older = NULL;
}

static void link_newest(struct compiled_cache *c, struct compiled *one)
{
    one->older = c->newest;
    if (c->newest != NULL)
        c->newest->newer = one;
    else
        c->oldest = one;
    c->newest = one;
}

static void drop(struct compiled_cache *c, struct compiled *one)
{
    unlink_one(c, one);
    arena_fini(&one->arena);
    free(one);
}

void compiled_cache_destroy(struct compiled_cache *c)
{
    if (c == NULL)
        return;
    while (c->newest != NULL)
        drop(c, c->newest);
    free(c);
}

static void trim(struct compiled_cache *c)
{
    size_t idle = 0, bytes = 0;

    for (struct compiled *one = c->newest, *older; one != NULL; one = older) {
        older = one->older;
        if (one->users > 0)
            continue;
        bytes += one->arena.used_bytes;
        if (++idle > COMPILED_IDLE_MAX || bytes > COMPILED_IDLE_BYTES)
            drop(c, one);
    }
}

/* All names of variables that any recipient of the batch has. */
static bool collect_keys(struct store_txn *t, const struct compiled *one, struct render_keys *keys,
                         struct arena *a)
{
    uint32_t slices = (one->head.recipient_count + MESSAGE_SLICE - 1) / MESSAGE_SLICE;
    struct arena scratch = {0};
    bool ok = true;

    for (uint32_t i = 0; ok && i < slices; i++) {
        struct recipient *list;
        struct slice packed;
        size_t count;
        /* A slice taken over by another batch may be absent; the others still have their keys. */
        if (!batch_recipients(t, one->batch_id, i, &packed))
            continue;
        arena_reset(&scratch);
        ok = recipients_unpack(packed, &scratch, &list, &count);
        for (size_t r = 0; ok && r < count; r++)
            for (size_t v = 0; v < list[r].var_count; v++)
                render_keys_add(keys, a, list[r].vars[v].name);
    }
    arena_fini(&scratch);
    return ok;
}

/* Which configuration set, and whether the message itself says what is tracked. */
static struct ses_setup setup_of(const struct compiled_cache *c, const struct compiled *one)
{
    const struct config_domain *domain = config_domain_find(c->config, one->head.domain);
    bool tracked = one->content.opens == TRACKING_ON || one->content.clicks == TRACKING_ON;
    struct ses_setup setup = {.batch_id = one->batch_id, .override_tracking = true};

    if (domain == NULL)
        return setup;
    if (!tracked && domain->untracked_configuration_set[0] != '\0') {
        setup.configuration_set = slice_str(domain->untracked_configuration_set);
        setup.override_tracking = false;
    } else {
        setup.configuration_set =
            slice_str(one->head.lane == LANE_TRANSACTIONAL ? domain->system_configuration_set
                                                           : domain->newsletter_configuration_set);
    }
    return setup;
}

static int load(const struct compiled_cache *c, struct compiled *one, struct store_txn *t,
                struct err *err)
{
    struct render_keys *keys = arena_alloc(&one->arena, sizeof *keys);
    struct slice head, content;

    if (!batch_head(t, one->batch_id, &head) || !batch_content(t, one->batch_id, &content))
        return err_set(err, ERR_NOT_FOUND, "batch %016" PRIx64 " is not in the store",
                       one->batch_id);
    /* Copied: what the map shows goes with the transaction. */
    if (!message_head_unpack(arena_dup(&one->arena, head), &one->arena, &one->head) ||
        !message_content_unpack(arena_dup(&one->arena, content), &one->arena, &one->content) ||
        (one->content.batch_mode && !collect_keys(t, one, keys, &one->arena)))
        return err_set(err, ERR_INPUT, "batch %016" PRIx64 " cannot be read from the store",
                       one->batch_id);
    struct ses_setup setup = setup_of(c, one);
    one->body = ses_batch_compile(&one->head, &one->content, keys, &setup, &one->arena);
    if (ses_batch_unknown_count(one->body) > 0)
        log_info("batch %016" PRIx64 ": %" PRIu32 " placeholders name no variable of the batch and "
                 "stay as text (in a header: leave it out)",
                 one->batch_id, ses_batch_unknown_count(one->body));
    return 0;
}

struct compiled *compiled_get(struct compiled_cache *c, struct store_txn *t, uint64_t batch_id,
                              struct err *err)
{
    struct compiled *one = c->newest;

    while (one != NULL && one->batch_id != batch_id)
        one = one->older;
    if (one != NULL) {
        unlink_one(c, one);
    } else {
        one = mem_zero(1, sizeof *one);
        one->batch_id = batch_id;
        if (load(c, one, t, err) != 0) {
            arena_fini(&one->arena);
            free(one);
            return NULL;
        }
    }
    link_newest(c, one);
    one->users++;
    return one;
}

void compiled_put(struct compiled_cache *c, struct compiled *one)
{
    if (one == NULL)
        return;
    assert(one->users > 0);
    one->users--;
    trim(c);
}
