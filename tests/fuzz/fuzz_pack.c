/*
 * Our msgpack cursor against msgpack-c's reader: what ours passes over as one whole value, the
 * library takes too, and as long. (The library knows floats and extensions besides; ours refuses
 * them.)
 */
#include <assert.h>
#include <msgpack.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unpack u = unpack_over(slice_of(data, size));

    unpack_skip(&u, 1);
    if (!unpack_ok(&u))
        return 0;

    msgpack_unpacked one;
    size_t at = 0;
    msgpack_unpacked_init(&one);
    msgpack_unpack_return got = msgpack_unpack_next(&one, (const char *)data, size, &at);
    assert(got == MSGPACK_UNPACK_SUCCESS || got == MSGPACK_UNPACK_EXTRA_BYTES);
    assert(at == (size_t)(u.at - data));
    msgpack_unpacked_destroy(&one);
    return 0;
}
