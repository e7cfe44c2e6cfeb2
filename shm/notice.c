#include "shm/notice.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

enum { WORDS = NOTICE_MAX_BYTES / 8 };

/*
 *   serial s   pages[s % 2] is valid      pages[(s + 1) % 2] is the publisher's to write
 *
 * A reader of page s % 2 is disturbed only by the record after the next one, and s + 1 is published
 * before a byte of that is written. So: still s behind the copy means that the copy is whole.
 * Bytes go as atomic words, for they are read while they may change.
 */
struct page {
    _Atomic uint64_t length;
    _Atomic uint64_t words[WORDS];
};

struct notice_shared {
    _Alignas(64) _Atomic uint64_t serial;
    _Alignas(64) struct page pages[2];
};

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");

/* Private to each process, copied by fork(). */
struct notice {
    struct notice_shared *shared;
};

struct notice *notice_create(struct err *err)
{
    void *map = mmap(NULL, sizeof(struct notice_shared), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED) {
        (void)err_sys(err, "mmap of a notice");
        return NULL;
    }
    (void)madvise(map, sizeof(struct notice_shared), MADV_DONTDUMP);
    struct notice *n = mem_alloc(sizeof *n);
    n->shared = map;
    return n;
}

void notice_destroy(struct notice *n)
{
    if (n == NULL)
        return;
    (void)munmap(n->shared, sizeof *n->shared);
    free(n);
}

int notice_publish(struct notice *n, struct slice record, struct err *err)
{
    /* Ours alone; a predecessor's last store is visible, as it was reaped before we were forked. */
    uint64_t serial = atomic_load_explicit(&n->shared->serial, memory_order_relaxed) + 1;
    struct page *page = &n->shared->pages[serial % 2];

    if (record.len > NOTICE_MAX_BYTES)
        return err_set(err, ERR_FULL, "a record of %zu bytes is longer than the %d that fit",
                       record.len, NOTICE_MAX_BYTES);
    /* (A) pairs with (D): who sees a word of this record sees the number published last, too. */
    atomic_thread_fence(memory_order_release); /* A */
    atomic_store_explicit(&page->length, record.len, memory_order_relaxed);
    for (size_t at = 0; at < record.len; at += 8) {
        uint64_t word = 0;
        memcpy(&word, record.ptr + at, record.len - at < 8 ? record.len - at : 8);
        atomic_store_explicit(&page->words[at / 8], word, memory_order_relaxed);
    }
    atomic_store_explicit(&n->shared->serial, serial, memory_order_release); /* B, with C */
    return 0;
}

uint64_t notice_serial(const struct notice *n)
{
    return atomic_load_explicit(&n->shared->serial, memory_order_acquire);
}

uint64_t notice_read(const struct notice *n, struct buf *to)
{
    while (true) {
        uint64_t serial = notice_serial(n); /* C, with B */
        const struct page *page = &n->shared->pages[serial % 2];
        buf_reset(to);
        if (serial == 0)
            return 0;
        uint64_t length = atomic_load_explicit(&page->length, memory_order_relaxed);
        if (length > NOTICE_MAX_BYTES)
            continue; /* torn */
        uint8_t *bytes = buf_reserve(to, NOTICE_MAX_BYTES);
        for (size_t at = 0; at < length; at += 8) {
            uint64_t word = atomic_load_explicit(&page->words[at / 8], memory_order_relaxed);
            memcpy(bytes + at, &word, 8);
        }
        atomic_thread_fence(memory_order_acquire); /* D, with A */
        if (atomic_load_explicit(&n->shared->serial, memory_order_relaxed) == serial) {
            to->len = length;
            return serial;
        }
    }
}
