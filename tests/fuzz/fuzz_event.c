/* What unpacks as an event must pack to something that unpacks to the same, and give JSON; so must
 * what unpacks as one like another, and with what the events of a model share it gives the same. */
#include <assert.h>
#include <stdint.h>

#include "base/json.h"
#include "mail/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_json(const struct event *e)
{
    struct event alone = *e;
    struct buf json = {0}, again = {0};

    event_to_json(&json, e, SLICE("https://h.example/"));
    cJSON *tree = json_parse(buf_slice(&json));
    assert(tree != NULL);
    json_free(tree);
    alone.shared = NULL;
    event_to_json(&again, &alone, SLICE("https://h.example/"));
    assert(slice_eq(buf_slice(&json), buf_slice(&again)));
    buf_fini(&json);
    buf_fini(&again);
}

static void try_like(struct slice data, struct arena *a)
{
    struct slice tags[] = {SLICE("bulk-email"), SLICE("ghost-email")};
    struct name_value vars[] = {{SLICE("email-id"), SLICE("65f0c1")}};
    struct event_shared shared[] = {{.arena = a}, {.arena = a}};
    const struct event model = {
        .shared = &shared[0],
        .type = EVENT_DELIVERED,
        .domain = SLICE("mg.example.com"),
        .recipient = SLICE("ann@example.net"),
        .to = SLICE("ann@example.net"),
        .tags = tags,
        .tag_count = 2,
        .vars = vars,
        .var_count = 1,
        .status = {.present = true, .code = 250, .message = SLICE("OK"), .attempt_no = 1},
    };
    const struct event bare = {.type = EVENT_OPENED, .shared = &shared[1]};
    const struct event *const models[] = {&model, &bare};
    struct buf like = {0}, packed = {0}, again = {0};

    expect_json(&model);
    expect_json(&bare);
    for (size_t i = 0; i < 2; i++) {
        struct event e = {.ses_us = 5}, back = e;
        if (!event_unpack_like(data, models[i], a, &e))
            continue;
        event_pack_like(&like, &e, models[i]);
        bool unpacked = event_unpack_like(buf_slice(&like), models[i], a, &back);
        assert(unpacked);
        event_pack(&packed, &e);
        event_pack(&again, &back);
        assert(slice_eq(buf_slice(&packed), buf_slice(&again)));
        expect_json(&e);
        buf_reset(&like);
        buf_reset(&packed);
        buf_reset(&again);
    }
    buf_fini(&like);
    buf_fini(&packed);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct buf packed = {0}, again = {0};
    struct event e = {.timestamp_us = 1764000000000001, .ses_us = 5}, back = e;

    if (event_unpack(slice_of(data, size), &a, &e)) {
        event_pack(&packed, &e);
        bool unpacked = event_unpack(buf_slice(&packed), &a, &back);
        assert(unpacked);
        event_pack(&again, &back);
        assert(slice_eq(buf_slice(&packed), buf_slice(&again)));
        expect_json(&e);
    }
    try_like(slice_of(data, size), &a);
    buf_fini(&packed);
    buf_fini(&again);
    arena_fini(&a);
    return 0;
}
