/*
 * Records: every table round-trips, its bytes are what they were (a newer build must read an older
 * one's ring), and nothing but a whole, well-formed record is taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/pack.h"
#include "shm/record.h"

static struct record_lease a_lease(void)
{
    return (struct record_lease){
        .generation = 3,
        .lease_id = 0x1122334455667788,
        .cell = 9,
        .batch_id = UINT64_MAX,
        .slice = 19,
        .mask = UINT64_C(1) << 49,
        .lane = LANE_NEWSLETTER,
    };
}

static void a_lease_is_these_bytes(void **unused)
{
    struct record_lease in = a_lease();
    struct buf bytes = {0}, hex = {0};

    (void)unused;
    record_lease_encode(&bytes, &in);
    text_hex(&hex, buf_slice(&bytes));
    assert_string_equal(buf_cstr(&hex), "9301058801030"
                                        "2cf112233445566778803090"
                                        "4cfffffffffffffffff0513"
                                        "06cf000200000000000007010800");
    buf_fini(&bytes);
    buf_fini(&hex);
}

static void records_of_the_buffer_queue_round_trip(void **unused)
{
    struct buf bytes = {0};
    struct record_buffered buffered = {.batch_id = 9,
                                       .verdict = BUFFERED_TOO_LARGE,
                                       .words = SLICE("w")},
                           buffered_out;
    struct record_held held = {.batch_id = 9, .until_mono_ms = 77}, held_out;
    struct record_part part = {.batch_id = UINT64_MAX,
                               .domain = SLICE("d"),
                               .head = SLICE("h"),
                               .content = SLICE("c"),
                               .slices = SLICE("s"),
                               .recipient_count = 3,
                               .claims = SLICE("k"),
                               .due_wall_ms = 4,
                               .lane = 1,
                               .receives = 2,
                               .until_mono_ms = 5},
                       part_out;
    struct record_lease lease = a_lease(), lease_out;

    (void)unused;
    record_buffered_encode(&bytes, &buffered);
    assert_int_equal(record_kind_of(buf_slice(&bytes)), RECORD_BUFFERED);
    assert_true(record_buffered_decode(buf_slice(&bytes), &buffered_out));
    assert_int_equal(buffered_out.verdict, BUFFERED_TOO_LARGE);
    buf_reset(&bytes);
    record_held_encode(&bytes, &held);
    assert_true(record_held_decode(buf_slice(&bytes), &held_out));
    assert_int_equal(held_out.until_mono_ms, 77);
    buf_reset(&bytes);
    record_part_encode(&bytes, &part);
    assert_true(record_part_decode(buf_slice(&bytes), &part_out));
    assert_true(part_out.batch_id == UINT64_MAX && part_out.receives == 2 &&
                part_out.until_mono_ms == 5 && slice_eq(part_out.claims, SLICE("k")));
    lease.until_mono_ms = 123;
    buf_reset(&bytes);
    record_lease_encode(&bytes, &lease);
    assert_true(record_lease_decode(buf_slice(&bytes), &lease_out));
    assert_int_equal(lease_out.until_mono_ms, 123);
    buf_fini(&bytes);
}

static void every_kind_round_trips(void **unused)
{
    struct buf bytes = {0};
    struct record_accept accept = {.request_id = 1,
                                   .generation = 2,
                                   .domain = SLICE("d"),
                                   .answer_id = SLICE("<i>"),
                                   .head = SLICE("head"),
                                   .content = SLICE("content\0with NUL"),
                                   .slices = SLICE("slices"),
                                   .recipient_count = 1000,
                                   .due_wall_ms = 5,
                                   .lane = 1,
                                   .testmode = true},
                         accept_out;
    struct record_outcomes outcomes = {.generation = 1, .results = SLICE("r"), .finished = true},
                           outcomes_out;
    struct record_event event = {.settles = true,
                                 .suppress = 3,
                                 .event_id = SLICE("0123456789abcdef")},
                        event_out;

    (void)unused;
    record_accept_encode(&bytes, &accept);
    assert_int_equal(record_kind_of(buf_slice(&bytes)), RECORD_ACCEPT);
    assert_true(record_accept_decode(buf_slice(&bytes), &accept_out));
    assert_true(slice_eq(accept_out.content, accept.content));
    assert_int_equal(accept_out.claims.len, 0);
    assert_true(accept_out.testmode);
    assert_int_equal(accept_out.recipient_count, 1000);
    assert_false(record_outcomes_decode(buf_slice(&bytes), &outcomes_out)); /* another kind */

    buf_reset(&bytes);
    record_outcomes_encode(&bytes, &outcomes);
    assert_true(record_outcomes_decode(buf_slice(&bytes), &outcomes_out));
    assert_true(outcomes_out.finished && slice_eq(outcomes_out.results, SLICE("r")));

    buf_reset(&bytes);
    record_event_encode(&bytes, &event);
    assert_true(record_event_decode(buf_slice(&bytes), &event_out));
    assert_int_equal(event_out.event_id.len, 16);
    buf_fini(&bytes);
}

/* What is not in the envelope's range is taken for nonsense, and costs its sender its life. */
static void the_envelope_of_every_kind_is_known(void **unused)
{
    struct buf bytes = {0};

    (void)unused;
#define TRY(lower, KIND)                                                                           \
    do {                                                                                           \
        struct record_##lower in = {0}, out;                                                       \
        buf_reset(&bytes);                                                                         \
        record_##lower##_encode(&bytes, &in);                                                      \
        assert_int_equal(record_kind_of(buf_slice(&bytes)), KIND);                                 \
        assert_true(record_##lower##_decode(buf_slice(&bytes), &out));                             \
    } while (0)
    TRY(accept, RECORD_ACCEPT);
    TRY(unheard, RECORD_UNHEARD);
    TRY(seen, RECORD_SEEN);
    TRY(unsuppress, RECORD_UNSUPPRESS);
    TRY(suppress, RECORD_SUPPRESS);
    TRY(answer, RECORD_ANSWER);
    TRY(lease, RECORD_LEASE);
    TRY(outcomes, RECORD_OUTCOMES);
    TRY(event, RECORD_EVENT);
    TRY(deadletter, RECORD_DEADLETTER);
    TRY(replayed, RECORD_REPLAYED);
    TRY(lifted, RECORD_LIFTED);
    TRY(ask, RECORD_ASK);
    TRY(control, RECORD_CONTROL);
    TRY(controlled, RECORD_CONTROLLED);
#undef TRY
    /* These two come and go between builds: a command line and a Postern that runs. */
    assert_int_equal(RECORD_CONTROL, 11);
    assert_int_equal(RECORD_CONTROLLED, 12);
    buf_fini(&bytes);
}

static void no_truncation_and_no_surplus_is_taken(void **unused)
{
    struct record_lease in = a_lease(), out;
    struct buf bytes = {0};

    (void)unused;
    record_lease_encode(&bytes, &in);
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(record_lease_decode(slice_of(bytes.ptr, len), &out));
    assert_true(record_lease_decode(buf_slice(&bytes), &out));
    buf_add_byte(&bytes, 0xc0);
    assert_false(record_lease_decode(buf_slice(&bytes), &out));
    buf_fini(&bytes);
}

/* [version, kind, {1: 1, 2: 2, …}] with these fields of a SEEN. */
static bool decodes(uint64_t version, uint64_t kind, const uint64_t *tags, size_t count,
                    bool text_as_number)
{
    struct record_seen out;
    struct buf bytes = {0};

    pack_array(&bytes, 3);
    pack_u64(&bytes, version);
    pack_u64(&bytes, kind);
    pack_map(&bytes, count);
    for (size_t i = 0; i < count; i++) {
        pack_u64(&bytes, tags[i]);
        if (tags[i] == 3 && !text_as_number)
            pack_str(&bytes, SLICE("domain"));
        else
            pack_u64(&bytes, 7);
    }
    bool got = record_seen_decode(buf_slice(&bytes), &out);
    buf_fini(&bytes);
    return got;
}

static void fields_are_judged_one_by_one(void **unused)
{
    static const uint64_t all[] = {1, 2, 3, 4}, missing[] = {1, 2, 3}, newer[] = {1, 2, 3, 4, 60};

    (void)unused;
    assert_true(decodes(RECORD_VERSION, RECORD_SEEN, all, 4, false));
    assert_false(decodes(RECORD_VERSION, RECORD_SEEN, missing, 3, false));
    assert_true(decodes(RECORD_VERSION, RECORD_SEEN, newer, 5, false)); /* a newer peer's field */
    assert_false(decodes(RECORD_VERSION, RECORD_SEEN, all, 4, true));
    assert_false(decodes(RECORD_VERSION + 1, RECORD_SEEN, all, 4, false));
    assert_false(decodes(RECORD_VERSION, 99, all, 4, false));
    assert_int_equal(record_kind_of(SLICE("")), 0);
    assert_int_equal(record_kind_of(SLICE("\x93\x01\x7f\x80")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_is_these_bytes),
        cmocka_unit_test(every_kind_round_trips),
        cmocka_unit_test(records_of_the_buffer_queue_round_trip),
        cmocka_unit_test(the_envelope_of_every_kind_is_known),
        cmocka_unit_test(no_truncation_and_no_surplus_is_taken),
        cmocka_unit_test(fields_are_judged_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
