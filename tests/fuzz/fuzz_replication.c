/*
 * Changes of other machines, as anybody who can write into an event queue could forge them: the
 * message, and, past an even first byte, one change without its message, or past a 'k' a text that is
 * sealed as a key of ours would seal rows. What is judged to be good has a domain of ours and says what
 * it does.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/seal.h"
#include "mail/replication.h"
#include "store/key_seals.h"
#include "store/replicas.h"

enum { STAMP_US = 1700000000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char name[] = "mg.example.com", secret[] = "key-of-ours", *secrets[] = {secret};
static struct config_domain domain = {.name = name, .api_keys = {secrets, 1}};
static const struct config config = {.domains = &domain, .domain_count = 1};

static void judge(struct slice change)
{
    struct record_change r;
    struct arena a = {0};
    struct slice why;

    if (replica_judge(change, &config, NULL, UINT64_C(1700000000000000), &a, &r, &why)) {
        assert(slice_eq(r.domain, SLICE("mg.example.com")));
        assert(r.what > 0 && r.what < CHANGE_END && r.stamp_us != 0);
    } else {
        assert(why.len > 0);
    }
    arena_fini(&a);
}

static bool is_row_of_ours(struct unpack *u)
{
    struct key_row row;

    return key_row_unpack(u, &row) && slice_eq(row.domain, slice_str(name)) && key_row_fits(&row) &&
           row.at.stamp_us > 0 && row.at.stamp_us <= STAMP_US;
}

/* Whoever has the key may say anything with it. */
static void judge_rows(struct slice plain)
{
    struct buf sealed = {0};
    struct arena a = {0};
    struct slice rows = slice_none(), why;
    uint8_t digest[SHA256_BYTES], sealer[SEAL_NAME_BYTES];
    struct record_change r = {.what = CHANGE_KEYS, .stamp_us = STAMP_US, .domain = slice_str(name)};

    digest_sha256(slice_str(secret), digest);
    keys_seal(digest, plain, &r, sealer, &sealed);
    if (keys_judge(NULL, &config, &r, &a, &rows, &why)) {
        struct unpack u = unpack_over(rows);
        for (uint32_t n = unpack_array(&u); n > 0; n--)
            assert(is_row_of_ours(&u));
        assert(unpack_done(&u));
    }
    buf_fini(&sealed);
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct replication r;
    struct arena a = {0};
    struct slice why = slice_none();

    if (size == 0)
        return 0;
    if (data[0] == 'k') {
        if (size > 1)
            judge_rows(slice_of(data + 1, size - 1));
        return 0;
    }
    if (data[0] % 2 == 0) {
        judge(slice_of(data + 1, size - 1));
        return 0;
    }
    switch (replication_parse(slice_of(data + 1, size - 1), &a, &r, &why)) {
    case REPLICATION_NONE:
        break;
    case REPLICATION_GOOD:
        assert(r.node != 0 && r.count > 0);
        for (size_t i = 0; i < r.count; i++)
            judge(r.changes[i]);
        break;
    case REPLICATION_BAD:
        assert(why.len > 0);
        break;
    }
    arena_fini(&a);
    return 0;
}
