#include "shm/bell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int bell_create(struct bell *b, _Atomic uint32_t *sleeping, struct err *err)
{
    b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->fd < 0)
        return err_sys(err, "eventfd");
    b->sleeping = sleeping;
    atomic_store(b->sleeping, 1);
    return 0;
}

void bell_destroy(struct bell *b)
{
    if (b->fd >= 0)
        (void)close(b->fd);
    b->fd = -1;
}

void bell_poke(const struct bell *b)
{
    const uint64_t one = 1;
    ssize_t written;

    do
        written = write(b->fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
    /* EAGAIN: the count is at its limit, so the listener will wake anyway. */
}

void bell_ring(const struct bell *b)
{
    /* (E) pairs with (F): either we see the flag, or the listener, which looks once more behind its
     * fence, sees the work that was published before ours. */
    atomic_thread_fence(memory_order_seq_cst); /* E */
    if (atomic_load_explicit(b->sleeping, memory_order_relaxed) != 0 &&
        atomic_exchange_explicit(b->sleeping, 0, memory_order_relaxed) != 0)
        bell_poke(b);
}

void bell_sleep(const struct bell *b)
{
    atomic_store_explicit(b->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* F */
}

void bell_quiet(const struct bell *b)
{
    uint64_t count;

    atomic_store_explicit(b->sleeping, 0, memory_order_relaxed);
    ssize_t got = read(b->fd, &count, sizeof count);
    (void)got; /* nothing to read: woken by the tick */
}
