/*
 * History of another program: what is taken, under which time, and that a second time adds nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/pack.h"
#include "store/elsewhere.h"
#include "store/events.h"
#include "store/import.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/suppressions.h"
#include "tests/unit/store/state_dir.h"

#define DOMAIN SLICE("mg.example.com")
#define DAY_US UINT64_C(86400000000)
#define NOW_US (UINT64_C(20000) * DAY_US)

struct fixture {
    char dir[64], name[32];
    struct store *store;
    struct config config;
    struct config_domain domain;
    struct store_txn *t;
    struct buf records;
    uint32_t count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-import-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open_sized(f->dir, STORE_WRITE, 1 << 20, &err);
    assert_non_null(f->store);
    (void)snprintf(f->name, sizeof f->name, "mg.example.com");
    f->domain.name = f->name;
    f->config.domains = &f->domain;
    f->config.domain_count = 1;
    f->config.retention.events_ms = 90 * DAY_US / 1000;
    f->t = store_begin_write(f->store, &err);
    assert_non_null(f->t);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_abort(f->t);
    store_close(f->store);
    state_dir_remove(f->dir);
    buf_fini(&f->records);
    free(f);
    return 0;
}

static void add(struct fixture *f, struct buf *one)
{
    pack_bin(&f->records, buf_slice(one));
    f->count++;
    buf_fini(one);
}

static struct event event_of(const char *id, uint64_t ses_us)
{
    struct event e = {.type = EVENT_COMPLAINED,
                      .domain = DOMAIN,
                      .recipient = SLICE("ann@example.net"),
                      .ses_us = ses_us};
    struct slice part = slice_str(id);

    event_make_id(&e, &part, 1);
    return e;
}

static void add_event(struct fixture *f, const char *id, struct slice domain, uint64_t ses_us,
                      enum suppression list)
{
    struct event e = event_of(id, ses_us);
    struct buf packed = {0}, one = {0};

    e.domain = domain;
    event_pack(&packed, &e);
    const struct record_event r = {.event = buf_slice(&packed),
                                   .event_id = slice_of(e.id, EVENT_ID_BYTES),
                                   .ses_us = ses_us,
                                   .suppress = (uint32_t)list};
    record_event_encode(&one, &r);
    buf_fini(&packed);
    add(f, &one);
}

static void add_mail(struct fixture *f, struct slice ses_id, uint64_t sent_us)
{
    struct buf one = {0}, tags = {0};

    pack_array(&tags, 1);
    pack_str(&tags, SLICE("bulk-email"));
    const struct record_elsewhere r = {.ses_id = ses_id,
                                       .domain = DOMAIN,
                                       .message_id = SLICE("m@x"),
                                       .email_id = SLICE("email-1"),
                                       .tags = buf_slice(&tags),
                                       .sent_us = sent_us};
    record_elsewhere_encode(&one, &r);
    buf_fini(&tags);
    add(f, &one);
}

/* What was added since the last time, judged and then taken: both say the same. */
static void expect(struct fixture *f, uint64_t late_us, const char *sums)
{
    struct buf packet = {0}, text = {0}, seen = {0}, judged = {0};
    struct import i = {.t = f->t, .config = &f->config, .now_us = NOW_US, .late_us = late_us};
    enum answer_verdict verdict = ANSWER_REFUSED;
    struct err err = {0};
    uint32_t count;

    struct unpack u = unpack_over(buf_slice(&f->records));
    for (uint32_t n = 0; n < f->count; n++)
        import_judge(&i, unpack_str(&u));
    for (int sum = 0; sum < IMPORT_SUMS; sum++)
        if (i.sums[sum] > 0)
            buf_printf(&judged, "%s %d ", import_sum_name((enum import_sum)sum), (int)i.sums[sum]);
    pack_array(&packet, f->count);
    buf_add_slice(&packet, buf_slice(&f->records));
    const struct record_control r = {
        .verb = CONTROL_IMPORT, .records = buf_slice(&packet), .late_us = late_us};
    assert_int_equal(import_control(f->t, &f->config, &r, NOW_US, &verdict, &count, &text, &err),
                     0);
    assert_int_equal(verdict, ANSWER_OK);
    cJSON *tree = json_parse(buf_slice(&text));
    for (int sum = 0; sum < IMPORT_SUMS; sum++) {
        int64_t n = 0;
        assert_true(json_get_i64(tree, import_sum_name((enum import_sum)sum), &n));
        if (n > 0)
            buf_printf(&seen, "%s %d ", import_sum_name((enum import_sum)sum), (int)n);
    }
    json_free(tree);
    assert_string_equal(buf_cstr(&seen), sums);
    assert_string_equal(buf_cstr(&judged), sums);
    buf_fini(&packet);
    buf_fini(&text);
    buf_fini(&seen);
    buf_fini(&judged);
    buf_reset(&f->records);
    f->count = 0;
}

static uint64_t timestamp_of(struct fixture *f, const char *id, uint64_t ses_us)
{
    struct event e = event_of(id, ses_us);
    struct slice value;

    assert_true(store_get(f->t, DB_EVENT_IDS, slice_of(e.id, EVENT_ID_BYTES), &value));
    return read_be(value.ptr, 8);
}

static void where_nobody_has_read_events_keep_their_times(void **state)
{
    struct fixture *f = *state;
    const uint64_t old_us = NOW_US - 80 * DAY_US + 1005;

    add_event(f, "a", DOMAIN, old_us, SUPPRESS_NONE);
    add_event(f, "b", DOMAIN, NOW_US - 91 * DAY_US, SUPPRESS_NONE);
    add_event(f, "c", SLICE("other.example"), old_us, SUPPRESS_NONE);
    expect(f, 0, "events 1 expired 1 not-read 1 ");
    assert_int_equal(timestamp_of(f, "a", old_us), old_us);
    add_event(f, "a", DOMAIN, old_us, SUPPRESS_NONE);
    expect(f, 0, "known 1 ");
}

static void nothing_is_put_behind_an_answer(void **state)
{
    struct fixture *f = *state;
    const uint64_t mark_us = NOW_US - DAY_US;
    struct err err = {0};

    assert_int_equal(watermark_raise(f->t, DOMAIN, mark_us, &err), 0);
    add_event(f, "before", DOMAIN, mark_us - 4 * DAY_US, SUPPRESS_NONE);
    add_event(f, "late", DOMAIN, mark_us - 2 * DAY_US, SUPPRESS_NONE);
    add_event(f, "step", DOMAIN, mark_us + 5, SUPPRESS_NONE);
    add_event(f, "after", DOMAIN, mark_us + DAY_US / 2 + 1005, SUPPRESS_NONE);
    expect(f, 3 * DAY_US, "events 1 late 2 behind 1 ");
    assert_true(timestamp_of(f, "late", mark_us - 2 * DAY_US) >= mark_us + WATERMARK_STEP_US);
    assert_true(timestamp_of(f, "step", mark_us + 5) >= mark_us + WATERMARK_STEP_US);
    assert_int_equal(timestamp_of(f, "after", mark_us + DAY_US / 2 + 1005),
                     mark_us + DAY_US / 2 + 1005);
    assert_false(event_is_known(f->t, event_of("before", mark_us - 4 * DAY_US).id));
}

static void an_address_is_listed_once_and_stays_off_when_it_was_lifted(void **state)
{
    struct fixture *f = *state;
    const uint64_t at_us = NOW_US - DAY_US + 1005;
    struct suppression_entry entry;
    struct err err = {0};

    add_event(f, "c", DOMAIN, at_us, SUPPRESS_COMPLAINT);
    add_event(f, "d", DOMAIN, NOW_US - 100 * DAY_US, SUPPRESS_BOUNCE);
    expect(f, 0, "events 1 expired 1 listed 2 ");
    assert_true(
        suppression_get(f->t, DOMAIN, SUPPRESS_COMPLAINT, SLICE("ann@example.net"), &entry));
    assert_int_equal(entry.created_us, at_us);
    assert_int_equal(
        suppression_delete(f->t, DOMAIN, SUPPRESS_COMPLAINT, SLICE("ann@example.net"), &err), 1);
    add_event(f, "c", DOMAIN, at_us, SUPPRESS_COMPLAINT);
    add_event(f, "d", DOMAIN, NOW_US - 100 * DAY_US, SUPPRESS_BOUNCE);
    expect(f, 0, "known 1 expired 1 listed-known 1 ");
}

static void the_allowlist_keeps_an_address_from_the_bounces(void **state)
{
    struct fixture *f = *state;
    struct suppression_entry entry = {.address = SLICE("example.net"), .code = SLICE("domain")};
    struct err err = {0};

    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_ALLOW, &entry, &err), 0);
    add_event(f, "b", DOMAIN, NOW_US - DAY_US, SUPPRESS_BOUNCE);
    expect(f, 0, "events 1 listed-known 1 ");
    assert_false(suppression_get(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("ann@example.net"), &entry));
}

static void a_mail_is_known_by_its_id_at_ses(void **state)
{
    struct fixture *f = *state;
    struct name_value vars[] = {{SLICE("other"), SLICE("1")}, {SLICE("email-id"), SLICE("wrong")}};
    struct event e = {.ses_id = SLICE("ses-1"), .vars = vars, .var_count = 2};
    struct arena a = {0};

    add_mail(f, SLICE("ses-1"), NOW_US - DAY_US);
    add_mail(f, SLICE("ses-2"), NOW_US - 91 * DAY_US);
    expect(f, 0, "expired 1 mails 1 ");
    add_mail(f, SLICE("ses-1"), NOW_US);
    expect(f, 0, "mails-known 1 ");
    assert_true(elsewhere_complete(f->t, &e, &a));
    assert_true(slice_eq(e.domain, DOMAIN) && slice_eq(e.message_id, SLICE("m@x")));
    assert_true(e.tag_count == 1 && slice_eq(e.tags[0], SLICE("bulk-email")));
    assert_int_equal(e.var_count, 2);
    assert_true(slice_eq(e.vars[1].value, SLICE("email-1")));
    e.ses_id = SLICE("ses-2");
    assert_false(elsewhere_complete(f->t, &e, &a));
    arena_fini(&a);
}

static void what_is_no_record_is_counted(void **state)
{
    struct fixture *f = *state;
    struct buf one = {0};

    buf_add_str(&one, "nonsense");
    add(f, &one);
    const struct record_seen seen = {.request_id = 1, .domain = DOMAIN};
    one = (struct buf){0};
    record_seen_encode(&one, &seen);
    add(f, &one);
    expect(f, 0, "not-read 2 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(where_nobody_has_read_events_keep_their_times),
        TEST(nothing_is_put_behind_an_answer),
        TEST(an_address_is_listed_once_and_stays_off_when_it_was_lifted),
        TEST(the_allowlist_keeps_an_address_from_the_bounces),
        TEST(a_mail_is_known_by_its_id_at_ses),
        TEST(what_is_no_record_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
