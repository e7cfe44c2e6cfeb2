#include "store/key_changes.h"

#include "base/clock.h"
#include "store/key_seals.h"
#include "store/retention.h"

enum { US_PER_MS = 1000, ID_BYTES = KEY_ID_DIGITS / 2 };

#define EVERYWHERE SLICE("*") /* how people name all domains */

struct asked {
    struct store_txn *t;
    const struct config *config;
    const struct record_control *r;
    struct arena arena;
    struct known_keys keys;
    enum answer_verdict *verdict;
    struct buf *words;
};

static int refuse(struct asked *k, enum answer_verdict verdict, const char *why)
{
    *k->verdict = verdict;
    buf_add_str(k->words, why);
    return 0;
}

static void put_id(struct buf *to, const uint8_t digest[SHA256_BYTES])
{
    buf_add_str(to, "sha256:");
    text_hex(to, slice_of(digest, ID_BYTES));
    buf_add_str(to, "...");
}

static void put_domain(struct buf *to, struct slice domain)
{
    if (domain.len == 0)
        buf_add_str(to, "all domains");
    else
        buf_add_slice(to, domain);
}

/* "*" or a configured domain, as a row names it. False: refused. */
static bool find_domain(struct asked *k, struct slice *domain)
{
    *domain = slice_none();
    if (slice_eq(k->r->domain, EVERYWHERE))
        return true;
    const struct config_domain *d = config_domain_find(k->config, k->r->domain);
    if (d != NULL) {
        *domain = slice_str(d->name);
        return true;
    }
    *k->verdict = ANSWER_NOT_FOUND;
    buf_printf(k->words, "%.*s is no configured domain", SLICE_ARGS(k->r->domain));
    return false;
}

/* Whoever asks; a name that does not fit a row is none. */
static struct slice asker(const struct asked *k)
{
    const struct key_row named = {.by = k->r->who};

    return key_row_fits(&named) ? k->r->who : slice_none();
}

/* -------- other machines -------- */

/* The row is as it is told; where none of ours could seal it, the person hears of it. */
static int tell(struct asked *k, const struct key_row *row, struct slice domain, struct err *err)
{
    int got = changes_are_told(k->t)
                  ? keys_tell(k->t, &k->keys, row->digest, domain, row->at.stamp_us, err)
                  : 1;

    if (got == 0) {
        buf_add_str(k->words, "; on this machine alone, for none of the keys of its proxy.conf may "
                              "tell the others of a key of ");
        put_domain(k->words, domain);
    }
    return got < 0 ? -1 : 0;
}

/* With this one went the last that could tell other machines of the domain's keys. */
static void say_mute(struct asked *k, struct slice domain)
{
    struct known_keys now;

    known_keys_read(k->t, k->config, &k->arena, &now);
    if (changes_are_told(k->t) && keys_can_be_told(&k->keys, domain) &&
        !keys_can_be_told(&now, domain)) {
        buf_add_str(k->words, "; before the next change put a key of ");
        put_domain(k->words, domain);
        buf_add_str(k->words, " into every machine's proxy.conf (postern key new), or the others "
                              "do not hear of it");
    }
}

/* -------- adding -------- */

struct oldest {
    const struct config_keys *configured;
    uint64_t before_us;
    struct key_row row;
    struct buf domain;
    size_t rows;
    bool found;
};

static bool is_configured(const struct config_keys *keys, const uint8_t digest[SHA256_BYTES])
{
    for (size_t i = 0; i < keys->count; i++)
        if (digest_is(keys->list[i].digest, digest))
            return true;
    return false;
}

static bool look_for_oldest(void *arg, const struct key_row *row)
{
    struct oldest *o = arg;

    o->rows++;
    if (row->state != KEY_WITHDRAWN || row->at.stamp_us >= o->before_us ||
        is_configured(o->configured, row->digest))
        return true;
    o->before_us = row->at.stamp_us;
    o->row = *row;
    buf_reset(&o->domain);
    buf_add_slice(&o->domain, row->domain);
    o->found = true;
    return true;
}

/* Where there are as many rows as may be, the key that was withdrawn longest ago is forgotten, if no
 * file has it and no machine can have anything of its time left to tell. 1, 0 = there is none, -1. */
static int make_room(struct asked *k, struct err *err)
{
    const uint64_t kept_us = RETENTION_VERSIONS_KEPT_MS * US_PER_MS;
    struct config_keys configured;
    int rc = 1;

    config_keys_read(k->config, &configured);
    struct oldest o = {.configured = &configured, .before_us = clock_wall_us() - kept_us};
    keys_each(k->t, look_for_oldest, &o);
    if (o.rows >= KEYS_MAX) {
        o.row.domain = buf_slice(&o.domain);
        rc = !o.found ? 0 : key_row_drop(k->t, &o.row, err) == 0 ? 1 : -1;
    }
    buf_fini(&o.domain);
    config_keys_fini(&configured);
    return rc;
}

static int put_added(struct asked *k, struct slice domain, struct err *err)
{
    struct key_row row = {
        .domain = domain,
        .state = KEY_ADDED,
        .only_sending = k->r->sending,
        .added_us = clock_wall_us(),
        .label = k->r->label,
        .by = asker(k),
    };

    memcpy(row.digest, k->r->digest.ptr, SHA256_BYTES);
    if (change_stamp(k->t, &row.at, err) != 0 || key_row_put(k->t, &row, err) != 0)
        return -1;
    key_row_log(&row, "");
    buf_add_str(k->words, "it opens ");
    put_domain(k->words, domain);
    buf_add_str(k->words, row.only_sending ? " for sending, at once" : " at once");
    return tell(k, &row, domain, err);
}

static int add(struct asked *k, uint32_t *count, struct err *err)
{
    struct slice domain;

    if (k->r->digest.len != SHA256_BYTES || !key_row_fits(&(struct key_row){.label = k->r->label}))
        return refuse(k, ANSWER_REFUSED, "a label is a text of at most 64 bytes, on one line");
    if (!find_domain(k, &domain))
        return 0;
    for (size_t i = 0; i < k->keys.count; i++)
        if (digest_is(k->keys.list[i].digest, k->r->digest.ptr))
            return refuse(k, ANSWER_REFUSED, "this key is known already");
    int room = make_room(k, err);
    if (room < 0)
        return -1;
    if (room == 0)
        return refuse(
            k, ANSWER_LIMIT,
            "there are as many added and withdrawn keys as there may be (256): take those "
            "that are withdrawn out of proxy.conf, then they are forgotten in time");
    *count = 1;
    return put_added(k, domain, err);
}

/* -------- withdrawing -------- */

static bool begins_with(const uint8_t digest[SHA256_BYTES], struct slice prefix)
{
    struct buf hex = {0};

    text_hex(&hex, slice_of(digest, SHA256_BYTES));
    bool does = prefix.len >= KEY_PREFIX_DIGITS && slice_starts_nocase(buf_slice(&hex), prefix);
    buf_fini(&hex);
    return does;
}

/* The one that is meant; NULL: refused. */
static const uint8_t *find_key(struct asked *k)
{
    const struct known_key *found = NULL;

    for (size_t i = 0; i < k->keys.count; i++)
        if (k->r->digest.len == SHA256_BYTES && digest_is(k->keys.list[i].digest, k->r->digest.ptr))
            return k->keys.list[i].digest;
    for (size_t i = 0; i < k->keys.count; i++) {
        const struct known_key *other = &k->keys.list[i];
        if (!begins_with(other->digest, k->r->prefix))
            continue;
        if (found != NULL && !digest_is(found->digest, other->digest)) {
            (void)refuse(k, ANSWER_REFUSED,
                         "several keys begin so: say more digits of the one that is meant");
            return NULL;
        }
        found = other;
    }
    if (found == NULL)
        (void)refuse(k, ANSWER_NOT_FOUND, "there is no such key; `postern key list` tells them");
    return found == NULL ? NULL : found->digest;
}

static bool is_meant(const struct known_key *k, const uint8_t digest[SHA256_BYTES])
{
    return !k->is_withdrawn && digest_is(k->digest, digest);
}

/* Does this key, or (but) any other one, open the domain for everything, or at least for sending? */
static bool is_open(const struct known_keys *keys, const uint8_t digest[SHA256_BYTES], bool but,
                    struct slice domain, bool sending)
{
    for (size_t i = 0; i < keys->count; i++) {
        const struct known_key *k = &keys->list[i];
        if (digest_is(k->digest, digest) != but &&
            (k->kind == CONFIG_KEY_FULL || (sending && k->kind == CONFIG_KEY_SENDING)) &&
            known_key_opens(keys, k, domain))
            return true;
    }
    return false;
}

/* A domain that would be without any such key; NULL: none. */
static const char *left_alone(const struct asked *k, const uint8_t digest[SHA256_BYTES],
                              struct slice domain)
{
    for (size_t i = 0; i < k->config->domain_count; i++) {
        struct slice name = slice_str(k->config->domains[i].name);
        if (domain.len > 0 && !slice_eq(domain, name))
            continue;
        for (int sending = 0; sending <= 1; sending++)
            if (is_open(&k->keys, digest, false, name, sending != 0) &&
                !is_open(&k->keys, digest, true, name, sending != 0))
                return k->config->domains[i].name;
    }
    return NULL;
}

static bool is_known_for(const struct known_keys *keys, const uint8_t digest[SHA256_BYTES],
                         struct slice domain)
{
    for (size_t i = 0; i < keys->count; i++)
        if (is_meant(&keys->list[i], digest) && slice_eq(keys->list[i].domain, domain))
            return true;
    return false;
}

static bool is_for_sending_only(const struct known_keys *keys, const uint8_t digest[SHA256_BYTES])
{
    for (size_t i = 0; i < keys->count; i++)
        if (is_meant(&keys->list[i], digest) && keys->list[i].kind != CONFIG_KEY_SENDING)
            return false;
    return true;
}

static int put_withdrawn(struct asked *k, const uint8_t digest[SHA256_BYTES], struct slice domain,
                         struct err *err)
{
    struct buf label = {0};
    struct key_row row;

    if (!key_row_get(k->t, digest, domain, &row))
        row = (struct key_row){.domain = domain};
    memcpy(row.digest, digest, SHA256_BYTES);
    buf_add_slice(&label, row.label); /* the map may move below it */
    row.label = buf_slice(&label);
    row.domain = domain;
    row.state = KEY_WITHDRAWN;
    row.only_sending = is_for_sending_only(&k->keys, digest);
    row.by = asker(k);
    int rc = change_stamp(k->t, &row.at, err) == 0 ? key_row_put(k->t, &row, err) : -1;
    if (rc == 0) {
        /* A key of all domains is theirs, though it is withdrawn for one. */
        bool is_of_all = is_known_for(&k->keys, digest, slice_none());
        key_row_log(&row, "");
        rc = tell(k, &row, is_of_all ? slice_none() : domain, err);
        say_mute(k, is_of_all ? slice_none() : domain);
    }
    buf_fini(&label);
    return rc;
}

/* What is to be withdrawn: one domain that was named, or each that the key stands for; where all
 * domains are among those, that says it all. The arena's, or NULL: refused. */
static struct slice *find_domains(struct asked *k, const uint8_t digest[SHA256_BYTES],
                                  size_t *count)
{
    struct slice *domains = arena_array(&k->arena, k->keys.count + 1, sizeof *domains), named;
    bool opens = false;
    bool is_named = k->r->domain.len > 0 && !slice_eq(k->r->domain, EVERYWHERE);

    *count = 0;
    if (is_named && !find_domain(k, &named))
        return NULL;
    for (size_t i = 0; i < k->keys.count; i++) {
        const struct known_key *key = &k->keys.list[i];
        if (!is_meant(key, digest))
            continue;
        opens = opens || !is_named || known_key_opens(&k->keys, key, named);
        bool is_there = false;
        for (size_t j = 0; j < *count; j++)
            is_there = is_there || slice_eq(domains[j], key->domain);
        if (key->domain.len == 0) {
            domains[0] = slice_none();
            *count = 1;
        } else if (!is_there && !(*count == 1 && domains[0].len == 0)) {
            domains[(*count)++] = arena_dup(&k->arena, key->domain);
        }
    }
    if (is_named) {
        domains[0] = named;
        *count = 1;
    }
    if (opens)
        return domains;
    (void)refuse(k, ANSWER_REFUSED,
                 is_named ? "this key does not open that domain" : "it is withdrawn already");
    return NULL;
}

static void say_withdrawn(struct asked *k, const uint8_t digest[SHA256_BYTES],
                          const struct slice *domains, size_t count)
{
    bool is_in_file = false;

    for (size_t i = 0; i < k->keys.count; i++)
        is_in_file = is_in_file ||
                     (k->keys.list[i].is_configured && digest_is(k->keys.list[i].digest, digest));
    put_id(k->words, digest);
    buf_add_str(k->words, " no longer opens ");
    for (size_t i = 0; i < count; i++) {
        buf_add_str(k->words, i > 0 ? ", " : "");
        put_domain(k->words, domains[i]);
    }
    if (is_in_file)
        buf_add_str(k->words, "; it still stands in proxy.conf: take it out there");
}

static int withdraw(struct asked *k, uint32_t *count, struct err *err)
{
    size_t domain_count;
    const uint8_t *digest = find_key(k);
    const struct slice *domains = digest == NULL ? NULL : find_domains(k, digest, &domain_count);

    if (domains == NULL)
        return 0;
    for (size_t i = 0; i < domain_count && !k->r->force; i++) {
        const char *alone = left_alone(k, digest, domains[i]);
        if (alone == NULL)
            continue;
        *k->verdict = ANSWER_REFUSED;
        buf_printf(k->words,
                   "it is the last key of %s, whose clients would be shut out: `postern key add "
                   "--domain %s` first, or say --force",
                   alone, alone);
        return 0;
    }
    say_withdrawn(k, digest, domains, domain_count);
    for (size_t i = 0; i < domain_count; i++)
        if (put_withdrawn(k, digest, domains[i], err) != 0)
            return -1;
    *count = (uint32_t)domain_count;
    return 0;
}

int key_control(struct store_txn *t, const struct config *config, const struct record_control *r,
                enum answer_verdict *verdict, uint32_t *count, struct buf *words, struct err *err)
{
    struct asked k = {.t = t, .config = config, .r = r, .verdict = verdict, .words = words};

    *verdict = ANSWER_OK;
    *count = 0;
    known_keys_read(t, config, &k.arena, &k.keys);
    int rc = r->verb == CONTROL_KEY_ADD ? add(&k, count, err) : withdraw(&k, count, err);
    arena_fini(&k.arena);
    return rc;
}
