/*
 * Records as an httpd that faces the internet could forge them: any bytes are judged without harm,
 * and what is taken is encoded to something that is taken again.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = {data, size};
    struct buf again = {0};

#define TRY(lower)                                                                                 \
    do {                                                                                           \
        struct record_##lower one, two;                                                            \
        if (record_##lower##_decode(bytes, &one)) {                                                \
            buf_reset(&again);                                                                     \
            record_##lower##_encode(&again, &one);                                                 \
            assert(record_##lower##_decode(buf_slice(&again), &two));                              \
        }                                                                                          \
    } while (0)
    TRY(accept);
    TRY(seen);
    TRY(unsuppress);
    TRY(suppress);
    TRY(answer);
    TRY(lease);
    TRY(outcomes);
    TRY(event);
    TRY(deadletter);
    TRY(replayed);
    TRY(lifted);
    TRY(webhook);
    TRY(posted);
    TRY(buffered);
    TRY(part);
    TRY(held);
    TRY(change);
    TRY(replica);
    TRY(told);
    TRY(control);
    TRY(controlled);
    buf_fini(&again);
    return 0;
}
