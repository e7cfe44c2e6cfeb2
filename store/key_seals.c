#include "store/key_seals.h"

#define PURPOSE SLICE("postern: changes of API keys")

static struct slice digest_slice(const uint8_t digest[SHA256_BYTES])
{
    return slice_of(digest, SHA256_BYTES);
}

/* What the seal also covers. */
static void put_beside(struct buf *to, const struct record_change *r)
{
    pack_array(to, 4);
    pack_u64(to, r->what);
    pack_u64(to, r->stamp_us);
    pack_str(to, r->domain);
    pack_bin(to, r->sealer);
}

/* -------- telling -------- */

static bool may_seal(const struct known_keys *keys, const struct known_key *k, struct slice domain)
{
    return k->is_configured && k->kind == CONFIG_KEY_FULL && known_key_opens(keys, k, domain);
}

bool keys_can_be_told(const struct known_keys *keys, struct slice domain)
{
    for (size_t i = 0; i < keys->count; i++)
        if (may_seal(keys, &keys->list[i], domain))
            return true;
    return false;
}

/* NULL: there is none. */
static const uint8_t *find_sealer(const struct known_keys *keys,
                                  const uint8_t changed[SHA256_BYTES], struct slice domain)
{
    const uint8_t *last = NULL;

    for (size_t i = 0; i < keys->count; i++) {
        const struct known_key *k = &keys->list[i];
        if (!may_seal(keys, k, domain))
            continue;
        if (!digest_is(k->digest, changed))
            return k->digest;
        last = k->digest;
    }
    return last;
}

struct packing {
    struct slice domain;
    struct buf rows;
    size_t count;
};

static bool pack_row(void *arg, const struct key_row *row)
{
    struct packing *p = arg;

    if (p->domain.len == 0 || slice_eq(row->domain, p->domain)) {
        key_row_pack(&p->rows, row);
        p->count++;
    }
    return true;
}

void keys_seal(const uint8_t digest[SHA256_BYTES], struct slice rows, struct record_change *r,
               uint8_t sealer[SEAL_NAME_BYTES], struct buf *sealed)
{
    struct buf beside = {0};

    seal_name(digest_slice(digest), PURPOSE, sealer);
    r->sealer = slice_of(sealer, SEAL_NAME_BYTES);
    put_beside(&beside, r);
    seal_make(digest_slice(digest), PURPOSE, buf_slice(&beside), rows, sealed);
    r->keys = buf_slice(sealed);
    buf_fini(&beside);
}

int keys_tell(struct store_txn *t, const struct known_keys *before,
              const uint8_t changed[SHA256_BYTES], struct slice domain, uint64_t stamp_us,
              struct err *err)
{
    const uint8_t *digest = find_sealer(before, changed, domain);
    struct record_change r = {.what = CHANGE_KEYS, .stamp_us = stamp_us, .domain = domain};
    struct packing p = {.domain = domain};
    struct buf rows = {0}, sealed = {0};
    uint8_t sealer[SEAL_NAME_BYTES];

    if (digest == NULL)
        return 0;
    keys_each(t, pack_row, &p);
    pack_array(&rows, p.count);
    buf_add_slice(&rows, buf_slice(&p.rows));
    keys_seal(digest, buf_slice(&rows), &r, sealer, &sealed);
    int rc = change_tell(t, &r, err);
    buf_fini(&p.rows);
    buf_fini(&rows);
    buf_fini(&sealed);
    return rc == 0 ? 1 : -1;
}

/* -------- judging -------- */

static bool is_row(const struct record_change *r, const struct key_row *row)
{
    return (r->domain.len == 0 || slice_eq(row->domain, r->domain)) && row->at.stamp_us != 0 &&
           row->at.stamp_us <= r->stamp_us && key_row_fits(row);
}

static bool are_rows(const struct record_change *r, struct slice rows)
{
    struct unpack u = unpack_over(rows);
    struct key_row row;

    for (uint32_t n = unpack_array(&u); n > 0; n--)
        if (!key_row_unpack(&u, &row) || !is_row(r, &row))
            return false;
    return unpack_done(&u);
}

/* Would it change whom a key opens? One that is withdrawn here and there is. */
static bool is_news(struct store_txn *t, const struct key_row *row)
{
    struct key_row now;

    return !key_row_get(t, row->digest, row->domain, &now) ||
           (version_is_later(&row->at, &now.at) &&
            !(row->state == KEY_WITHDRAWN && now.state == KEY_WITHDRAWN));
}

static bool has_news(struct store_txn *t, struct slice rows)
{
    struct unpack u = unpack_over(rows);
    struct key_row row;

    for (uint32_t n = unpack_array(&u); n > 0 && key_row_unpack(&u, &row); n--)
        if (is_news(t, &row))
            return true;
    return false;
}

/* That of the configuration which the change says it is sealed with; NULL: it has none. */
static const struct known_key *find_named(const struct known_keys *keys,
                                          const struct record_change *r)
{
    uint8_t name[SEAL_NAME_BYTES];

    for (size_t i = 0; i < keys->count; i++) {
        const struct known_key *k = &keys->list[i];
        if (!k->is_configured || k->kind != CONFIG_KEY_FULL ||
            (k->domain.len > 0 && !slice_eq(k->domain, r->domain)))
            continue;
        seal_name(digest_slice(k->digest), PURPOSE, name);
        if (digest_equal(slice_of(name, sizeof name), r->sealer))
            return k;
    }
    return NULL;
}

static bool unseal(const struct known_key *k, const struct record_change *r, struct arena *a,
                   struct slice *rows)
{
    struct buf beside = {0}, plain = {0};

    put_beside(&beside, r);
    bool fits = seal_open(digest_slice(k->digest), PURPOSE, buf_slice(&beside), r->keys, &plain);
    if (fits)
        *rows = arena_dup(a, buf_slice(&plain));
    buf_fini(&beside);
    buf_fini(&plain);
    return fits;
}

bool keys_judge(struct store_txn *t, const struct config *config, const struct record_change *r,
                struct arena *a, struct slice *rows, struct slice *why)
{
    struct known_keys keys;

    known_keys_read(t, config, a, &keys);
    const struct known_key *sealer = find_named(&keys, r);
    *why = arena_printf(a,
                        "a change of another machine's API keys, sealed with a key that this "
                        "machine's proxy.conf does not have: for %.*s",
                        SLICE_ARGS(r->domain.len > 0 ? r->domain : SLICE("all domains")));
    if (sealer == NULL)
        return false;
    *why = SLICE("a change of another machine's API keys whose seal is not right: it is forged, or "
                 "damaged");
    if (!unseal(sealer, r, a, rows) || !are_rows(r, *rows))
        return false;
    *why =
        SLICE("a change of another machine's API keys, sealed with a key that is withdrawn here");
    return t == NULL || known_key_opens(&keys, sealer, r->domain) || !has_news(t, *rows);
}

/* -------- making them -------- */

int keys_apply(struct store_txn *t, struct slice rows, struct err *err)
{
    struct unpack u = unpack_over(rows);
    struct key_row row, now;

    for (uint32_t n = unpack_array(&u); n > 0 && key_row_unpack(&u, &row); n--) {
        if (key_row_get(t, row.digest, row.domain, &now) && !version_is_later(&row.at, &now.at))
            continue;
        if (key_row_put(t, &row, err) != 0)
            return -1;
        key_row_log(&row, " on another machine");
    }
    return 0;
}
