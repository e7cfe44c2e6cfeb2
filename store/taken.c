#include "store/taken.h"

#include <string.h>

#include "store/batch_write.h"
#include "store/internal.h"
#include "store/key.h"

enum { FIXED_BYTES = 1 + CLAIM_BYTES, TEXT_BYTES_MAX = 300 }; /* a row: word, claim, text */

static const uint8_t no_claim[CLAIM_BYTES];

static struct key key_of(uint64_t batch_id)
{
    struct key k = {.len = 0};

    key_u64(&k, batch_id);
    return k;
}

bool taken_get(struct store_txn *t, uint64_t batch_id, struct taken *taken)
{
    struct key k = key_of(batch_id);
    struct slice row;

    if (!store_get(t, DB_TAKEN, key_slice(&k), &row) || row.len < FIXED_BYTES ||
        row.ptr[0] > TAKEN_REFUSED)
        return false;
    *taken =
        (struct taken){.word = (enum taken_word)row.ptr[0], .text = slice_from(row, FIXED_BYTES)};
    if (memcmp(row.ptr + 1, no_claim, CLAIM_BYTES) != 0)
        taken->once = slice_of(row.ptr + 1, CLAIM_BYTES);
    return true;
}

static int put(struct store_txn *t, uint64_t batch_id, enum taken_word word, struct slice once,
               struct slice text, struct err *err)
{
    struct key k = key_of(batch_id);
    struct buf row = {0};

    buf_add_byte(&row, (uint8_t)word);
    buf_add_slice(&row, once.len == CLAIM_BYTES ? once : slice_of(no_claim, CLAIM_BYTES));
    buf_add_slice(&row, slice_head(text, TEXT_BYTES_MAX));
    int rc = store_put(t, DB_TAKEN, key_slice(&k), buf_slice(&row), err);
    buf_fini(&row);
    return rc;
}

int taken_put(struct store_txn *t, uint64_t batch_id, struct slice once, struct err *err)
{
    return put(t, batch_id, TAKEN_UNKNOWN, once, slice_none(), err);
}

int taken_note(struct store_txn *t, uint64_t batch_id, enum taken_word word, struct slice text,
               struct err *err)
{
    struct taken now;

    if (!taken_get(t, batch_id, &now) || now.word == TAKEN_SENT ||
        (now.word == TAKEN_REFUSED && word == TAKEN_REFUSED))
        return 0;
    return put(t, batch_id, word, now.once, text, err);
}

int taken_del(struct store_txn *t, uint64_t batch_id, struct err *err)
{
    struct key k = key_of(batch_id);
    struct taken taken;
    uint64_t owner;

    if (!taken_get(t, batch_id, &taken))
        return 0;
    if (taken.once.len > 0 && claim_get(t, taken.once.ptr, &owner) && owner == batch_id) {
        uint8_t once[CLAIM_BYTES];
        memcpy(once, taken.once.ptr, CLAIM_BYTES);
        if (claim_del(t, once, err) != 0)
            return -1;
    }
    return store_del(t, DB_TAKEN, key_slice(&k), err);
}
