/* Packed messages from the ring or the store: what unpacks, packs to something that unpacks to the
 * same. The first byte chooses the part. */
#include <assert.h>
#include <stdint.h>

#include "mail/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Packs again what from holds into *to; false when it does not unpack. */
static bool again(unsigned part, struct slice from, struct buf *to)
{
    struct arena a = {0};
    struct message_head head;
    struct message_content content;
    struct recipient *list;
    size_t count;
    bool good = false;

    if (part == 0 && (good = message_head_unpack(from, &a, &head)))
        message_head_pack(to, &head);
    if (part == 1 && (good = message_content_unpack(from, &a, &content)))
        message_content_pack(to, &content);
    if (part == 2 && (good = recipients_unpack(from, &a, &list, &count))) {
        struct recipient one;
        recipients_pack(to, list, count);
        bool found = recipients_unpack_one(from, count - 1, &a, &one);
        assert(found && slice_eq(one.address, list[count - 1].address));
        assert(!recipients_unpack_one(from, count, &a, &one));
    }
    arena_fini(&a);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first = {0}, second = {0};

    if (size > 0 && again(data[0] % 3, slice_of(data + 1, size - 1), &first)) {
        bool good = again(data[0] % 3, buf_slice(&first), &second);
        assert(good && slice_eq(buf_slice(&first), buf_slice(&second)));
    }
    buf_fini(&first);
    buf_fini(&second);
    return 0;
}
