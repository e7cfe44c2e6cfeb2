/* Whatever SQS hands over: a verdict, and events whose promises hold. Read twice it gives the same
 * ids. */
#include <assert.h>
#include <stdint.h>

#include "base/json.h"
#include "mail/ses_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct ses_event *e, struct ses_event *again)
{
    struct buf packed = {0}, json = {0};
    struct arena a = {0};
    struct event back = {0};

    ses_event_identify(e);
    ses_event_identify(again);
    assert(memcmp(e->event.id, again->event.id, EVENT_ID_BYTES) == 0);
    if (e->event.type != 0) {
        event_pack(&packed, &e->event);
        bool unpacked = event_unpack(buf_slice(&packed), &a, &back);
        assert(unpacked);
        event_to_json(&json, &e->event, (struct slice){0});
        cJSON *tree = json_parse(buf_slice(&json));
        assert(tree != NULL);
        if (e->event.type == EVENT_FAILED) {
            assert(e->event.severity != SEVERITY_NONE);
            assert(e->event.status.present && e->event.status.code >= 400);
        }
        json_free(tree);
    }
    buf_fini(&packed);
    buf_fini(&json);
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct ses_event *events, *again;
    size_t count, count_again;
    struct slice why = {0};

    enum ses_verdict verdict = ses_event_parse(slice_of(data, size), &a, &events, &count, &why);
    assert((verdict == SES_DEADLETTER) == (why.len > 0));
    assert(verdict == SES_EVENTS || count == 0);
    if (count > 0) {
        (void)ses_event_parse(slice_of(data, size), &a, &again, &count_again, &why);
        assert(count == count_again);
        for (size_t i = 0; i < count; i++)
            check(&events[i], &again[i]);
    }
    arena_fini(&a);
    return 0;
}
