#include "mail/part.h"

#include <assert.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/pack.h"
#include "mail/form.h"

enum { FIELDS = 10, ZSTD_LEVEL = 6, OWN_BYTES = 512 };
#define MAGIC SLICE("postern-part")

_Static_assert(PART_CLAIM_BYTES == 16 && PART_LEAST_RECIPIENTS == (int)MESSAGE_SLICE,
               "parts are cut at slices");

/* -------- zstd -------- */

static struct slice compress(struct slice plain, struct arena *a)
{
    size_t room = ZSTD_compressBound(plain.len);
    uint8_t *out = arena_alloc(a, room);
    ZSTD_CCtx *z = ZSTD_createCCtx();

    assert(z != NULL);

    (void)ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    (void)ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    size_t len = ZSTD_compress2(z, out, room, plain.ptr, plain.len);
    (void)ZSTD_freeCCtx(z);
    return ZSTD_isError(len) ? slice_none() : slice_of(out, len);
}

/* The frame says how long it will be; more than that it cannot write. */
static bool decompress(struct slice frame, struct arena *a, struct slice *plain)
{
    unsigned long long size = ZSTD_getFrameContentSize(frame.ptr, frame.len);

    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size == 0 ||
        size > PART_CONTENT_MAX)
        return false;
    uint8_t *out = arena_alloc(a, (size_t)size);
    size_t len = ZSTD_decompress(out, (size_t)size, frame.ptr, frame.len);
    if (ZSTD_isError(len) || len != size)
        return false;
    *plain = slice_of(out, len);
    return true;
}

/* -------- recipients in the order of their claims -------- */

struct ranked {
    const uint8_t *claim;
    struct recipient *recipient;
};

static int by_claim(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    return memcmp(x->claim, y->claim, PART_CLAIM_BYTES);
}

static void claims_of(const struct message_head *head, struct recipient *list, size_t count,
                      struct buf *to)
{
    const struct submission s = {.head = *head, .recipients = list, .recipient_count = count};

    submission_claims(&s, to);
}

/* All recipients of packed slices, or NULL. Each slice but the last is full. */
static struct recipient *unpack_slices(struct slice slices, uint32_t count, struct arena *a)
{
    struct unpack u = unpack_over(slices);
    uint32_t left = unpack_array(&u), at = 0;
    struct recipient *all;

    if (count == 0 || count > MESSAGE_RECIPIENTS_MAX)
        return NULL;
    all = arena_array(a, count, sizeof *all);
    for (; left > 0 && unpack_ok(&u); left--) {
        struct recipient *some;
        size_t n, due = count - at < MESSAGE_SLICE ? count - at : MESSAGE_SLICE;
        struct slice packed = unpack_str(&u);
        if (!unpack_ok(&u) || !recipients_unpack(packed, a, &some, &n) || n != due)
            return NULL;
        memcpy(all + at, some, n * sizeof *all);
        at += (uint32_t)n;
    }
    return unpack_done(&u) && at == count ? all : NULL;
}

static void pack_slices(struct buf *to, const struct recipient *list, size_t count)
{
    struct buf one = {0};

    pack_array(to, (count + MESSAGE_SLICE - 1) / MESSAGE_SLICE);
    for (size_t at = 0; at < count; at += MESSAGE_SLICE) {
        buf_reset(&one);
        recipients_pack(&one, list + at, count - at < MESSAGE_SLICE ? count - at : MESSAGE_SLICE);
        pack_bin(to, buf_slice(&one));
    }
    buf_fini(&one);
}

/* Sorts list and claims alike. */
static struct recipient *sort(struct recipient *list, uint32_t count, struct buf *claims,
                              struct arena *a)
{
    struct ranked *ranks = arena_array(a, count, sizeof *ranks);
    struct recipient *sorted = arena_array(a, count, sizeof *sorted);
    uint8_t *in_order = arena_array(a, count, PART_CLAIM_BYTES);

    for (uint32_t i = 0; i < count; i++)
        ranks[i] = (struct ranked){claims->ptr + (size_t)i * PART_CLAIM_BYTES, &list[i]};
    qsort(ranks, count, sizeof *ranks, by_claim);
    for (uint32_t i = 0; i < count; i++) {
        sorted[i] = *ranks[i].recipient;
        memcpy(in_order + (size_t)i * PART_CLAIM_BYTES, ranks[i].claim, PART_CLAIM_BYTES);
    }
    buf_reset(claims);
    buf_add(claims, in_order, (size_t)count * PART_CLAIM_BYTES);
    return sorted;
}

/* -------- cutting -------- */

struct cutting {
    const struct part_source *from;
    struct message_head head;
    struct recipient *recipients; /* sorted */
    struct slice claims;          /* in the same order */
    struct slice content;         /* compressed */
    struct arena *arena;
};

void part_group_of(struct slice claims, uint8_t out[PART_GROUP_BYTES])
{
    uint8_t hash[SHA256_BYTES];
    size_t count = claims.len / PART_CLAIM_BYTES;
    struct ranked *ranks = mem_zero(count + 1, sizeof *ranks);
    struct buf sorted = {0};

    for (size_t i = 0; i < count; i++)
        ranks[i].claim = claims.ptr + i * PART_CLAIM_BYTES;
    qsort(ranks, count, sizeof *ranks, by_claim);
    for (size_t i = 0; i < count; i++)
        buf_add(&sorted, ranks[i].claim, PART_CLAIM_BYTES);
    digest_sha256(buf_slice(&sorted), hash);
    memcpy(out, hash, PART_GROUP_BYTES);
    buf_fini(&sorted);
    free(ranks);
}

static struct slice encode(const struct cutting *c, uint32_t first, uint32_t recipients,
                           uint32_t part, uint32_t parts)
{
    struct buf plain = {0}, head = {0}, packed = {0}, body = {0};
    struct message_head own = c->head;
    uint8_t group[PART_GROUP_BYTES];

    part_group_of(slice_of(c->claims.ptr + (size_t)first * PART_CLAIM_BYTES,
                           (size_t)recipients * PART_CLAIM_BYTES),
                  group);
    own.recipient_count = recipients;
    message_head_pack(&head, &own);
    pack_slices(&plain, c->recipients + first, recipients);
    pack_array(&packed, FIELDS);
    pack_str(&packed, MAGIC);
    pack_u64(&packed, PART_VERSION);
    pack_u64(&packed, c->from->batch_id + part);
    pack_u64(&packed, part);
    pack_u64(&packed, parts);
    pack_str(&packed, c->head.domain);
    pack_bin(&packed, slice_of(group, sizeof group));
    pack_bin(&packed, buf_slice(&head));
    pack_bin(&packed, compress(buf_slice(&plain), c->arena));
    pack_bin(&packed, c->content);
    text_base64(&body, buf_slice(&packed));
    struct slice kept = arena_dup(c->arena, buf_slice(&body));
    buf_fini(&plain);
    buf_fini(&head);
    buf_fini(&packed);
    buf_fini(&body);
    return kept;
}

static bool cut_by(const struct cutting *c, uint32_t most, size_t message_max,
                   struct part_messages *to)
{
    uint32_t all = c->head.recipient_count, parts = (all + most - 1) / most;

    *to = (struct part_messages){.count = 0};
    if (parts > PARTS_MAX)
        return false;
    for (uint32_t part = 0; part < parts; part++) {
        struct part_message *m = &to->list[to->count++];
        uint32_t first = part * most;
        m->recipient_count = all - first < most ? all - first : most;
        m->batch_id = c->from->batch_id + part;
        m->body = encode(c, first, m->recipient_count, part, parts);
        part_group_of(slice_of(c->claims.ptr + (size_t)first * PART_CLAIM_BYTES,
                               (size_t)m->recipient_count * PART_CLAIM_BYTES),
                      m->group);
        if (m->body.len > message_max)
            return false;
    }
    return true;
}

static bool all_are_readers(const struct recipient *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i].kind != RECIPIENT_TO)
            return false;
    return true;
}

enum part_verdict part_cut(const struct part_source *from, size_t message_max, struct arena *a,
                           struct part_messages *to)
{
    static const uint32_t sizes[] = {PART_MOST_RECIPIENTS, 250, 100, PART_LEAST_RECIPIENTS};
    struct cutting c = {.from = from, .arena = a};
    enum part_verdict verdict = PART_TOO_LARGE;
    struct buf claims = {0};

    *to = (struct part_messages){.count = 0};
    if (!message_head_unpack(from->head, a, &c.head))
        return PART_BAD;
    if (!c.head.batch_mode || c.head.email_id.len == 0 || c.head.testmode)
        return PART_LOCAL;
    struct recipient *list = unpack_slices(from->slices, c.head.recipient_count, a);
    if (list == NULL)
        return PART_BAD;
    if (!all_are_readers(list, c.head.recipient_count))
        return PART_LOCAL;
    if (from->content.len > PART_CONTENT_MAX)
        return PART_TOO_LARGE;
    c.content = compress(from->content, a);
    if (c.content.len == 0)
        return PART_BAD;
    if (c.content.len / 3 * 4 + OWN_BYTES > message_max)
        return PART_TOO_LARGE;
    claims_of(&c.head, list, c.head.recipient_count, &claims);
    c.recipients = sort(list, c.head.recipient_count, &claims, a);
    c.claims = buf_slice(&claims);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && verdict != PART_OK; i++)
        if (cut_by(&c, sizes[i], message_max, to))
            verdict = PART_OK;
    buf_fini(&claims);
    if (verdict != PART_OK)
        to->count = 0;
    return verdict;
}

/* -------- reading -------- */

static bool complete(struct part *p, struct slice group, struct arena *a, struct slice *why)
{
    struct message_head head;
    struct message_content content;
    uint8_t own[PART_GROUP_BYTES];
    struct buf claims = {0};

    *why = SLICE("its head cannot be read");
    if (!message_head_unpack(p->head, a, &head) || !slice_eq(head.domain, p->domain) ||
        head.email_id.len == 0 || !head.batch_mode || head.testmode)
        return false;
    *why = SLICE("its recipients cannot be read");
    struct recipient *list = unpack_slices(p->slices, head.recipient_count, a);
    if (list == NULL || !all_are_readers(list, head.recipient_count))
        return false;
    *why = SLICE("its content cannot be read");
    if (!message_content_unpack(p->content, a, &content) || !content.batch_mode)
        return false;
    claims_of(&head, list, head.recipient_count, &claims);
    p->claims = arena_dup(a, buf_slice(&claims));
    buf_fini(&claims);
    part_group_of(p->claims, own);
    *why = SLICE("its recipients are not those that it was made of");
    p->recipient_count = head.recipient_count;
    p->lane = head.lane;
    p->due_wall_ms = head.due_wall_ms;
    return slice_eq(group, slice_of(own, sizeof own));
}

bool part_read(struct slice body, struct arena *a, struct part *p, struct slice *why)
{
    struct buf packed = {0};

    *p = (struct part){.batch_id = 0};
    *why = SLICE("it is not base64");
    bool is_text = text_from_base64(&packed, body);
    struct slice bytes = arena_dup(a, buf_slice(&packed));
    buf_fini(&packed);
    if (!is_text)
        return false;
    struct unpack u = unpack_over(bytes);
    *why = SLICE("it is no part of a batch");
    uint32_t fields = unpack_array(&u);
    if (!slice_eq(unpack_str(&u), MAGIC) || !unpack_ok(&u))
        return false;
    uint64_t version = unpack_u64(&u);
    if (unpack_ok(&u) && version != PART_VERSION) {
        *why = arena_printf(a, "its version is %llu; this Postern reads %d",
                            (unsigned long long)version, PART_VERSION);
        return false;
    }
    p->batch_id = unpack_u64(&u);
    uint64_t number = unpack_u64(&u), count = unpack_u64(&u);
    p->domain = unpack_str(&u);
    struct slice group = unpack_str(&u);
    p->head = unpack_str(&u);
    struct slice recipients = unpack_str(&u), content = unpack_str(&u);
    if (!unpack_done(&u) || fields != FIELDS || p->batch_id == 0 || count == 0 ||
        count > PARTS_MAX || number >= count)
        return false;
    p->number = (uint32_t)number;
    p->count = (uint32_t)count;
    *why = SLICE("its zstd frames are damaged");
    if (!decompress(recipients, a, &p->slices) || !decompress(content, a, &p->content))
        return false;
    return complete(p, group, a, why);
}
