/* Packed messages from a ring or a damaged store: unpacking stays inside, and what passes packs to
 * the same bytes' meaning again. First byte: which part. */
#include <assert.h>

#include "mail/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct buf packed = {0};
    struct slice rest = slice_from(slice_of(data, size), 1);
    struct message_head head;
    struct message_content content;
    struct recipient *list, one;
    size_t count = 0;

    switch (size == 0 ? 0 : data[0] % 3) {
    case 0:
        if (message_head_unpack(rest, &a, &head)) {
            message_head_pack(&packed, &head);
            assert(message_head_unpack(buf_slice(&packed), &a, &head));
        }
        break;
    case 1:
        if (message_content_unpack(rest, &a, &content)) {
            message_content_pack(&packed, &content);
            assert(message_content_unpack(buf_slice(&packed), &a, &content));
        }
        break;
    default:
        if (!recipients_unpack(rest, &a, &list, &count))
            break;
        assert(count >= 1 && count <= MESSAGE_SLICE);
        for (size_t i = 0; i < count; i++) {
            assert(recipients_unpack_one(rest, i, &a, &one));
            assert(slice_eq(one.address, list[i].address) && one.var_count == list[i].var_count);
        }
        assert(!recipients_unpack_one(rest, count, &a, &one));
    }
    buf_fini(&packed);
    arena_fini(&a);
    return 0;
}
