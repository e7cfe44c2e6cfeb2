/* What unpacks as an event must pack to something that unpacks to the same, and give JSON. */
#include <assert.h>
#include <stdint.h>

#include "base/json.h"
#include "mail/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct buf packed = {0}, again = {0}, json = {0};
    struct event e = {.timestamp_us = 1764000000000001, .ses_us = 5}, back = e;

    if (event_unpack(slice_of(data, size), &a, &e)) {
        event_pack(&packed, &e);
        bool unpacked = event_unpack(buf_slice(&packed), &a, &back);
        assert(unpacked);
        event_pack(&again, &back);
        assert(slice_eq(buf_slice(&packed), buf_slice(&again)));
        event_to_json(&json, &e, SLICE("https://h.example/"));
        cJSON *tree = json_parse(buf_slice(&json));
        assert(tree != NULL);
        json_free(tree);
    }
    buf_fini(&packed);
    buf_fini(&again);
    buf_fini(&json);
    arena_fini(&a);
    return 0;
}
