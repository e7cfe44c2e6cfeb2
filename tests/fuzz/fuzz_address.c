/* Mailbox lists from anyone: reading ends, stays inside, and what passes is an address. */
#include <assert.h>

#include "mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct buf folded = {0};
    struct slice list = slice_of(data, size);
    bool is_utf8 = slice_is_utf8(list);
    struct mailbox m;

    while (true) {
        size_t before = list.len;
        if (address_next(&list, &a, &m) != ADDRESS_OK)
            break;
        assert(list.len < before);
        assert(address_is_valid(m.address));
        assert(slice_find_byte(m.address, '\n') == SIZE_MAX);
        for (size_t i = 0; i < m.name.len; i++)
            assert(m.name.ptr[i] >= ' ' && m.name.ptr[i] != 0x7f);
        assert(!is_utf8 || slice_is_utf8(m.name));
        buf_reset(&folded);
        address_fold(&folded, m.address);
        assert(slice_eq_nocase(buf_slice(&folded), m.address));
    }
    buf_fini(&folded);
    arena_fini(&a);
    return 0;
}
