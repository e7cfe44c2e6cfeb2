/*
 * postern key: API keys. new makes one for proxy.conf; add and withdraw are the running Postern's to do,
 * at once and without a reload; list reads the configuration and the store. Only digests leave here: the
 * key itself is shown once, by whom it was made.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/request.h"
#include "store/control.h"
#include "store/keys.h"

enum {
    RANDOM_BYTES = 20, /* 160 bits: no slow hash is needed to keep them */
    ID_COLUMNS = KEY_ID_DIGITS + 2,
    DOMAIN_COLUMNS = 30,
    KIND_COLUMNS = 10,
    STATE_COLUMNS = 15,
    TIME_COLUMNS = 18,
    BY_COLUMNS = 12,
    LABEL_COLUMNS = 40,
    US_PER_MS = 1000,
};

static int say(const char *words)
{
    (void)fprintf(stderr, "postern key: %s\n", words);
    return CLI_WRONG_USE;
}

/* -------- new, add -------- */

struct fresh {
    struct buf key, hex;
    uint8_t digest[SHA256_BYTES];
};

static void make(struct fresh *f)
{
    uint8_t random[RANDOM_BYTES];

    *f = (struct fresh){0};
    digest_random(random, sizeof random);
    buf_add_str(&f->key, "key-");
    text_hex(&f->key, slice_of(random, sizeof random));
    explicit_bzero(random, sizeof random);
    digest_sha256(buf_slice(&f->key), f->digest);
    text_hex(&f->hex, slice_of(f->digest, sizeof f->digest));
}

static void forget(struct fresh *f)
{
    explicit_bzero(f->key.ptr, f->key.cap);
    buf_fini(&f->key);
    buf_fini(&f->hex);
}

/* more: further members; NULL = none. */
static void put_json(const struct fresh *f, const struct record_control *r, struct slice words)
{
    struct buf line = {0};

    buf_add_byte(&line, '{');
    json_put_str(&line, "key", buf_slice(&f->key));
    json_put_str(&line, "sha256", buf_slice(&f->hex));
    if (r != NULL) {
        json_put_str(&line, "domain", r->domain);
        json_put_str(&line, "kind", r->sending ? SLICE("sending") : SLICE("full"));
        json_put_str(&line, "words", words);
    }
    (void)printf("%s}\n", buf_cstr(&line));
    explicit_bzero(line.ptr, line.cap);
    buf_fini(&line);
}

static int new_key(const struct cli_options *o)
{
    struct fresh f;

    if (o->words[1] != NULL || o->domain != NULL || o->label != NULL || o->sending || o->force)
        return say("new takes nothing but --json; add makes a key that opens a domain at once");
    make(&f);
    if (o->json)
        put_json(&f, NULL, slice_none());
    else
        (void)printf(
            "%s\n\n"
            "Keep it where the client (Ghost) reads it; it is not shown again. In proxy.conf:\n\n"
            "    api_keys = {\"sha256:%s\"}\n\n"
            "beside those that stand there, in a domain (or above all of them, for all; or as\n"
            "sending_keys, to send only). HUP takes it over.\n",
            buf_cstr(&f.key), buf_cstr(&f.hex));
    forget(&f);
    return CLI_DONE;
}

static int add(const struct cli_options *o)
{
    struct config *config;
    struct record_controlled a = {0};
    struct buf answer = {0};
    struct fresh f;
    struct err err;
    int status = CLI_DONE;

    if (o->words[1] != NULL || o->force)
        return say(
            "add makes a key itself: --domain says for whom, --sending and --label what for");
    if (o->domain == NULL)
        return say("say which domain it opens: --domain NAME, or --domain '*' for all");
    config = cli_config_load(o);
    if (config == NULL)
        return CLI_WRONG_USE;
    make(&f);
    const struct record_control r = {
        .verb = CONTROL_KEY_ADD,
        .domain = slice_str(o->domain),
        .who = slice_str(cli_person()),
        .digest = slice_of(f.digest, sizeof f.digest),
        .label = slice_str(o->label),
        .sending = o->sending,
    };
    if (control_ask(config->state_dir, &r, &answer, &a, &err) != 0) {
        (void)fprintf(stderr, "postern key: %s\n", err.text);
        status = err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
    } else if (a.verdict != ANSWER_OK) {
        (void)fprintf(stderr, "postern key: %.*s\n", SLICE_ARGS(a.text));
        status = CLI_NOT_SO;
    } else if (o->json) {
        put_json(&f, &r, a.text);
    } else {
        (void)printf("%s\n\n"
                     "Keep it where the client (Ghost) reads it; it is not shown again:\n%.*s.\n"
                     "In proxy.conf it may stand as \"sha256:%s\".\n",
                     buf_cstr(&f.key), SLICE_ARGS(a.text), buf_cstr(&f.hex));
    }
    forget(&f);
    buf_fini(&answer);
    config_free(config);
    return status;
}

/* -------- withdraw -------- */

/* As the log and the list name a key, or as proxy.conf does: "sha256:" before and "..." behind may be
 * left out. */
static struct slice digits_of(struct slice word)
{
    if (slice_starts(word, SLICE("sha256:")))
        word = slice_from(word, sizeof "sha256:" - 1);
    while (word.len > 0 && word.ptr[word.len - 1] == '.')
        word.len--;
    for (size_t i = 0; i < word.len; i++)
        if (!isxdigit(word.ptr[i]))
            return slice_none();
    return word;
}

static int withdraw(const struct cli_options *o)
{
    uint8_t digest[SHA256_BYTES];

    if (o->words[1] == NULL || o->sending || o->label != NULL)
        return say("say which to withdraw: `postern key list` lists them");
    if (o->domain != NULL && o->domain[0] == '\0')
        return say("--domain has no name: leave it out for all that the key opens");
    struct slice word = slice_str(o->words[1]), digits = digits_of(word);
    if (slice_starts(word, SLICE("sha256:")) && digits.len < KEY_PREFIX_DIGITS)
        return say("behind sha256: at least 8 hex digits name a key");
    digest_sha256(word, digest);
    const struct record_control r = {
        .verb = CONTROL_KEY_WITHDRAW,
        .domain = slice_str(o->domain),
        .who = slice_str(cli_person()),
        .digest = slice_of(digest, sizeof digest),
        .prefix = digits,
        .force = o->force,
    };
    return cli_ask_counting(o, &r, "withdrawn");
}

/* -------- list -------- */

static struct slice kind_name(enum config_key_kind kind)
{
    switch (kind) {
    case CONFIG_KEY_FULL:
        return SLICE("full");
    case CONFIG_KEY_SENDING:
        return SLICE("sending");
    case CONFIG_KEY_METRICS:
        return SLICE("metrics");
    }
    return slice_none();
}

static struct slice state_name(const struct known_key *k)
{
    return k->is_withdrawn    ? SLICE("withdrawn")
           : k->is_configured ? SLICE("configured")
                              : SLICE("added");
}

static void put_line(struct buf *to, const struct known_key *k, uint64_t now_ms)
{
    struct buf id = {0}, since = {0};

    text_hex(&id, slice_of(k->digest, KEY_ID_DIGITS / 2));
    if (k->since_us > 0)
        page_time(&since, k->since_us / US_PER_MS, now_ms);
    page_column(to, buf_slice(&id), ID_COLUMNS);
    page_column(to, k->domain.len > 0 ? k->domain : SLICE("(all)"), DOMAIN_COLUMNS);
    page_column(to, kind_name(k->kind), KIND_COLUMNS);
    page_column(to, state_name(k), STATE_COLUMNS);
    page_column(to, buf_slice(&since), TIME_COLUMNS);
    page_column(to, k->by, BY_COLUMNS);
    page_column(to, k->is_withdrawn && k->is_configured ? SLICE("still in proxy.conf") : k->label,
                LABEL_COLUMNS);
    while (to->len > 0 && to->ptr[to->len - 1] == ' ')
        to->len--;
    buf_add_byte(to, '\n');
    buf_fini(&id);
    buf_fini(&since);
}

static void put_key_json(struct buf *to, const struct known_key *k)
{
    struct buf id = {0};

    text_hex(&id, slice_of(k->digest, KEY_ID_DIGITS / 2));
    buf_add_byte(to, '{');
    json_put_str(to, "id", buf_slice(&id));
    json_put_str(to, "domain", k->domain.len > 0 ? k->domain : SLICE("*"));
    json_put_str(to, "kind", kind_name(k->kind));
    json_put_str(to, "state", state_name(k));
    json_put_bool(to, "in-proxy-conf", k->is_configured);
    json_put_u64(to, "since-ms", k->since_us / US_PER_MS);
    json_put_str(to, "by", k->by);
    json_put_str(to, "label", k->label);
    buf_add_str(to, "}\n");
    buf_fini(&id);
}

static void show(const struct cli_options *o, const struct known_keys *keys)
{
    struct buf text = {0};
    uint64_t now_ms = clock_wall_ms();

    if (!o->json)
        buf_printf(&text, "%-*s%-*s%-*s%-*s%-*s%-*s%s\n", ID_COLUMNS, "id", DOMAIN_COLUMNS,
                   "domain", KIND_COLUMNS, "kind", STATE_COLUMNS, "state", TIME_COLUMNS, "since",
                   BY_COLUMNS, "by", "label");
    for (size_t i = 0; i < keys->count; i++) {
        const struct known_key *k = &keys->list[i];
        if (o->domain != NULL && k->domain.len > 0 &&
            !slice_eq_nocase(k->domain, slice_str(o->domain)))
            continue;
        if (o->json)
            put_key_json(&text, k);
        else
            put_line(&text, k, now_ms);
    }
    (void)fwrite(text.ptr, 1, text.len, stdout);
    buf_fini(&text);
}

/* Where Postern has not run yet there are those of the file. */
static int list(const struct cli_options *o)
{
    struct arena arena = {0};
    struct known_keys keys;
    struct store_txn *t = NULL;
    struct err err = {0};
    int status = CLI_DONE;

    if (o->words[1] != NULL || o->sending || o->label != NULL || o->force)
        return say("list takes --domain and --json");
    struct config *config = cli_config_load(o);
    if (config == NULL)
        return CLI_WRONG_USE;
    struct store *store = store_open(config->state_dir, STORE_READ, &err);
    if (store != NULL)
        t = store_begin_read(store, &err);
    if (o->domain != NULL && strcmp(o->domain, "*") != 0 &&
        config_domain_find(config, slice_str(o->domain)) == NULL) {
        (void)fprintf(stderr, "postern key: %s is no configured domain\n", o->domain);
        status = CLI_NOT_SO;
    } else if (t == NULL && err.code != ERR_NOT_FOUND) {
        status = say(err.text);
    } else {
        known_keys_read(t, config, &arena, &keys);
        show(o, &keys);
    }
    arena_fini(&arena);
    if (t != NULL)
        store_end_read(t);
    store_close(store);
    config_free(config);
    return status;
}

int cli_key(const struct cli_options *o)
{
    if (o->words[0] == NULL)
        return say("say what: new, add, list or withdraw (postern key --help)");
    if (strcmp(o->words[0], "new") == 0)
        return new_key(o);
    if (strcmp(o->words[0], "add") == 0)
        return add(o);
    if (strcmp(o->words[0], "list") == 0)
        return list(o);
    return withdraw(o);
}
