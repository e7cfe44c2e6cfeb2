/* Messages of the buffer queue, as anybody who may send to it could forge them. The first byte says
 * whether the rest is the text itself or what stands in base64. */
#include <assert.h>
#include <stdint.h>

#include "base/digest.h"
#include "mail/part.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct buf text = {0};
    struct part p;
    struct slice why;

    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        buf_add(&text, data + 1, size - 1);
    else
        text_base64(&text, slice_of(data + 1, size - 1));
    if (part_read(buf_slice(&text), &a, &p, &why)) {
        /* What is believed can be cut again, into parts of the same claims. */
        const struct part_source source = {
            .batch_id = p.batch_id, .head = p.head, .content = p.content, .slices = p.slices};
        struct part_messages messages;
        assert(p.claims.len == (size_t)p.recipient_count * PART_CLAIM_BYTES);
        enum part_verdict verdict = part_cut(&source, SIZE_MAX, &a, &messages);
        assert(verdict == PART_OK);
    } else {
        assert(why.len > 0);
    }
    arena_fini(&a);
    buf_fini(&text);
    return 0;
}
