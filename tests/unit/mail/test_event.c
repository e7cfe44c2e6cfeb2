#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/event.h"

static struct event sample(struct arena *a, enum event_type type)
{
    struct slice *tags = arena_array(a, 2, sizeof *tags);
    struct name_value *vars = arena_array(a, 1, sizeof *vars);

    tags[0] = SLICE("bulk-email");
    tags[1] = SLICE("ghost-email");
    vars[0] = (struct name_value){SLICE("email-id"), SLICE("65f0c1")};
    return (struct event){
        .id = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        .timestamp_us = 1764000123418207,
        .ses_us = 1764000123418207,
        .type = type,
        .domain = SLICE("mg.example.com"),
        .recipient = SLICE("Ann@Example.net"),
        .message_id = SLICE("2026.e65@mg.example.com"),
        .to = SLICE("Ann@Example.net"),
        .from = SLICE("News <news@mg.example.com>"),
        .subject = SLICE("Hello \"you\""),
        .tags = tags,
        .tag_count = 2,
        .vars = vars,
        .var_count = 1,
        .size_bytes = 18231,
        .envelope_sender = SLICE("bounce@mg.example.com"),
    };
}

static void gives(const struct event *e, const char *storage, const char *golden)
{
    struct buf json = {0};

    event_to_json(&json, e, slice_str(storage));
    assert_string_equal(buf_cstr(&json), golden);
    cJSON *tree = json_parse(buf_slice(&json));
    assert_non_null(tree);
    json_free(tree);
    buf_fini(&json);
}

#define HEAD(name, level)                                                                          \
    "{\"event\":\"" name "\",\"id\":\"AAECAwQFBgcICQoLDA0ODw\",\"timestamp\":1764000123.418207,"   \
    "\"log-level\":\"" level "\""
#define WHO                                                                                        \
    ",\"recipient\":\"Ann@Example.net\",\"recipient-domain\":\"example.net\","                     \
    "\"tags\":[\"bulk-email\",\"ghost-email\"],\"campaigns\":[],"                                  \
    "\"user-variables\":{\"email-id\":\"65f0c1\"}"
#define FLAGS                                                                                      \
    ",\"flags\":{\"is-routed\":false,\"is-authenticated\":true,\"is-system-test\":false,"          \
    "\"is-test-mode\":false"
#define ENVELOPE(ip)                                                                               \
    ",\"envelope\":{\"transport\":\"smtp\",\"sender\":\"bounce@mg.example.com\"" ip                \
    ",\"targets\":\"Ann@Example.net\"}"
#define MESSAGE                                                                                    \
    ",\"message\":{\"headers\":{\"to\":\"Ann@Example.net\","                                       \
    "\"message-id\":\"2026.e65@mg.example.com\",\"from\":\"News <news@mg.example.com>\","          \
    "\"subject\":\"Hello \\\"you\\\"\"},\"attachments\":[],\"size\":18231"
#define CLIENT                                                                                     \
    ",\"client-info\":{\"client-name\":\"Firefox\",\"client-os\":\"Linux\","                       \
    "\"client-type\":\"browser\",\"device-type\":\"desktop\",\"user-agent\":\"Mozilla/5.0\","      \
    "\"bot\":\"\"}"

static void a_delivered_event_is_written_byte_for_byte(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_DELIVERED);

    (void)state;
    e.sending_ip = SLICE("192.0.2.7");
    e.ses_id = SLICE("0100-ses");
    e.status = (struct delivery_status){
        .present = true,
        .code = 250,
        .message = SLICE("OK"),
        .mx_host = SLICE("mx.example.net"),
        .attempt_no = 1,
        .session_ms = 420,
    };
    gives(&e, "https://h.example/v3/domains/mg.example.com/messages/",
          HEAD("delivered", "info") WHO FLAGS "}" ENVELOPE(
              ",\"sending-ip\":\"192.0.2.7\"") ",\"delivery-status\":{\"code\":250,\"message\":"
                                               "\"OK\",\"description\":\"\","
                                               "\"attempt-no\":1,\"session-seconds\":0.42,\"mx-"
                                               "host\":\"mx.example.net\"}" MESSAGE
                                               "},\"storage\":{\"url\":\"https://h.example/v3/"
                                               "domains/mg.example.com/messages/"
                                               "MjAyNi5lNjVAbWcuZXhhbXBsZS5jb20\",\"key\":"
                                               "\"MjAyNi5lNjVAbWcuZXhhbXBsZS5jb20\"},"
                                               "\"ses-id\":\"0100-ses\"}");
    arena_fini(&a);
}

static void failures_say_how_bad_and_why(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_FAILED);

    (void)state;
    e.severity = SEVERITY_PERMANENT;
    e.reason = SLICE("suppress-bounce");
    e.status = (struct delivery_status){
        .present = true,
        .code = 605,
        .description = SLICE("Not delivering to previously bounced address"),
        .attempt_no = 1,
    };
    gives(&e, "",
          HEAD("failed",
               "error") ",\"severity\":\"permanent\",\"reason\":\"suppress-bounce\"" WHO FLAGS
                        "}" ENVELOPE(
                            "") ",\"delivery-status\":{\"code\":605,\"message\":\"\","
                                "\"description\":\"Not delivering to previously bounced address\","
                                "\"attempt-no\":1,\"session-seconds\":0.0}" MESSAGE "}}");

    e.severity = SEVERITY_TEMPORARY;
    e.reason = SLICE("generic");
    e.delayed_bounce = true;
    e.status = (struct delivery_status){
        .present = true,
        .code = 451,
        .message = SLICE("try later"),
        .enhanced_code = SLICE("4.7.1"),
        .attempt_no = 2,
        .session_ms = 1005,
        .retry_s = 600,
    };
    gives(&e, "",
          HEAD("failed", "warn") ",\"severity\":\"temporary\",\"reason\":\"generic\"" WHO
              FLAGS ",\"is-delayed-bounce\":true}" ENVELOPE(
                  "") ",\"delivery-status\":{\"code\":451,\"message\":\"try "
                      "later\",\"description\":\"\","
                      "\"enhanced-code\":\"4.7.1\",\"attempt-no\":2,\"session-seconds\":1.005,"
                      "\"retry-seconds\":600}" MESSAGE "}}");
    arena_fini(&a);
}

static void engagement_names_the_client(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_OPENED);

    (void)state;
    e.ip = SLICE("198.51.100.4");
    e.user_agent = SLICE("Mozilla/5.0");
    e.client_name = SLICE("Firefox");
    e.client_os = SLICE("Linux");
    e.client_type = SLICE("browser");
    e.device_type = SLICE("desktop");
    gives(&e, "", HEAD("opened", "info") WHO FLAGS "},\"ip\":\"198.51.100.4\"" CLIENT MESSAGE "}}");
    e.type = EVENT_CLICKED;
    e.url = SLICE("https://example.com/?a=1&b=2");
    gives(&e, "",
          HEAD("clicked", "info") WHO FLAGS "},\"ip\":\"198.51.100.4\"" CLIENT
                                            ",\"url\":\"https://example.com/?a=1&b=2\"" MESSAGE
                                            "}}");
    e.type = EVENT_UNSUBSCRIBED;
    e.url = (struct slice){0};
    gives(&e, "",
          HEAD("unsubscribed", "info") WHO FLAGS "},\"ip\":\"198.51.100.4\"" CLIENT MESSAGE "}}");
    arena_fini(&a);
}

static void the_other_types_have_their_own_members(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_ACCEPTED);

    (void)state;
    e.method = SLICE("http");
    gives(&e, "",
          HEAD("accepted", "info") ",\"method\":\"http\"" WHO FLAGS "}" ENVELOPE("") MESSAGE
          ",\"recipients\":[\"Ann@Example.net\"]}}");
    e.method = (struct slice){0};
    e.type = EVENT_COMPLAINED;
    gives(&e, "", HEAD("complained", "warn") WHO FLAGS "}" MESSAGE "}}");
    e.type = EVENT_REJECTED;
    e.reason = SLICE("generic");
    e.status = (struct delivery_status){.present = true, .description = SLICE("virus")};
    gives(&e, "",
          HEAD("rejected", "warn") WHO FLAGS
          "}" ENVELOPE("") ",\"reject\":{\"reason\":\"generic\",\"description\":\"virus\"}" MESSAGE
                           "}}");
    e.status.present = false;
    e.type = EVENT_STORED;
    gives(&e, "",
          HEAD("stored", "info") WHO FLAGS "}" ENVELOPE("") MESSAGE
          ",\"recipients\":[\"Ann@Example.net\"]}}");
    arena_fini(&a);
}

static void a_late_event_shows_sess_time_and_an_empty_email_id_is_left_out(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_COMPLAINED);
    struct buf json = {0};

    (void)state;
    e.ses_us = 1764000000000042;
    e.vars[0].value = (struct slice){0};
    event_to_json(&json, &e, (struct slice){0});
    const char *text = buf_cstr(&json);
    assert_non_null(strstr(text, "\"timestamp\":1764000123.418207,"));
    assert_non_null(strstr(text, ",\"ses-timestamp\":1764000000.000042}"));
    assert_non_null(strstr(text, "\"user-variables\":{},"));
    buf_fini(&json);
    arena_fini(&a);
}

static void a_packed_event_reads_back_and_every_cut_is_refused(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_FAILED), back = {0};
    struct buf packed = {0}, again = {0};

    (void)state;
    e.status = (struct delivery_status){.present = true, .code = -3, .session_ms = 7};
    event_pack(&packed, &e);
    memcpy(back.id, e.id, sizeof e.id);
    back.timestamp_us = e.timestamp_us;
    back.ses_us = 5;
    assert_true(event_unpack(buf_slice(&packed), &a, &back));
    assert_true(back.timestamp_us == e.timestamp_us && back.ses_us == 5);
    assert_int_equal(back.status.code, -3);
    assert_memory_equal(back.id, e.id, sizeof e.id);
    event_pack(&again, &back);
    assert_true(slice_eq(buf_slice(&packed), buf_slice(&again)));
    for (size_t len = 0; len < packed.len; len++)
        assert_false(event_unpack(slice_head(buf_slice(&packed), len), &a, &back));
    buf_add_byte(&packed, 0);
    assert_false(event_unpack(buf_slice(&packed), &a, &back));
    packed.len--;
    assert_int_equal(packed.ptr[4], EVENT_FAILED); /* array 16 head, version, type */
    packed.ptr[4] = EVENT_TYPE_END;
    assert_false(event_unpack(buf_slice(&packed), &a, &back));
    packed.ptr[4] = 0;
    assert_false(event_unpack(buf_slice(&packed), &a, &back));
    buf_fini(&packed);
    buf_fini(&again);
    arena_fini(&a);
}

/* Rows of events that were stored long ago are read by it. */
static void events_are_packed_as_they_ever_were(void **state)
{
    static const char *const digests[] = {
        "d2e241c01918f41a54abeb73a4608f45565252d87a753651e9039154563847d1",
        "30b178f03f9c938369b24cc9369aa7dc14db20d57f88cf66bef1d27ff46afd04"};
    struct arena a = {0};
    struct event e = sample(&a, EVENT_FAILED);

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct buf packed = {0}, hex = {0};
        uint8_t digest[SHA256_BYTES];
        event_pack(&packed, &e);
        digest_sha256(buf_slice(&packed), digest);
        text_hex(&hex, slice_of(digest, sizeof digest));
        assert_string_equal(buf_cstr(&hex), digests[i]);
        buf_fini(&packed);
        buf_fini(&hex);
        e.severity = SEVERITY_PERMANENT;
        e.reason = SLICE("bounce");
        e.test_mode = e.delayed_bounce = true;
        e.sending_ip = SLICE("192.0.2.1");
        e.status = (struct delivery_status){.present = true,
                                            .code = -550,
                                            .message = SLICE("message"),
                                            .description = SLICE("description"),
                                            .enhanced_code = SLICE("5.1.1"),
                                            .mx_host = SLICE("192.0.2.2"),
                                            .attempt_no = 2,
                                            .session_ms = 300,
                                            .retry_s = 70000};
        e.ip = SLICE("192.0.2.3");
        e.user_agent = SLICE("agent");
        e.url = SLICE("https://example.com/");
        e.client_name = SLICE("name");
        e.client_os = SLICE("os");
        e.client_type = SLICE("type");
        e.device_type = SLICE("device");
        e.bot = SLICE("bot");
        e.ses_id = SLICE("ses");
        e.method = SLICE("http");
    }
    arena_fini(&a);
}

/* As an event and as a log, once each. */
static void put_both(struct buf *to, const struct event *e)
{
    buf_reset(to);
    event_to_json(to, e, SLICE("https://mail.example.com/v3/domains/mg.example.com/messages/"));
    event_to_log(to, e, SLICE("https://mail.example.com"));
}

/* With what the events of a model have in common its JSON is the same, whichever was said first. */
static void said_with(const struct event *e, const struct event *model, bool model_first)
{
    struct arena a = {0};
    struct event_shared shared = {.arena = &a};
    struct event kept = *model, back = {.timestamp_us = e->timestamp_us, .ses_us = e->ses_us};
    struct buf like = {0}, plain = {0}, said = {0};

    kept.shared = &shared;
    memcpy(back.id, e->id, sizeof back.id);
    event_pack_like(&like, e, model);
    assert_true(event_unpack_like(buf_slice(&like), &kept, &a, &back));
    for (int i = 0; i < 2; i++) {
        bool is_model = model_first == (i == 0);
        put_both(&plain, is_model ? model : e);
        put_both(&said, is_model ? &kept : &back);
        assert_true(slice_eq(buf_slice(&said), buf_slice(&plain)));
    }
    buf_fini(&like);
    buf_fini(&plain);
    buf_fini(&said);
    arena_fini(&a);
}

/* Packed like the model and read again it is the same event, and every cut of that is refused.
 * Returns how long it was. */
static size_t told_by(const struct event *e, const struct event *model)
{
    struct buf like = {0}, whole = {0}, again = {0};
    struct arena a = {0};
    struct event back = {.timestamp_us = 7, .ses_us = 5};

    event_pack_like(&like, e, model);
    assert_true(event_unpack_like(buf_slice(&like), model, &a, &back));
    assert_true(back.timestamp_us == 7 && back.ses_us == 5);
    event_pack(&whole, e);
    event_pack(&again, &back);
    assert_true(slice_eq(buf_slice(&whole), buf_slice(&again)));
    said_with(e, model, true);
    said_with(e, model, false);
    for (size_t len = 0; len < like.len; len++)
        assert_false(event_unpack_like(slice_head(buf_slice(&like), len), model, &a, &back));
    size_t len = like.len;
    buf_add_byte(&like, 0);
    assert_false(event_unpack_like(buf_slice(&like), model, &a, &back));
    buf_fini(&like);
    buf_fini(&whole);
    buf_fini(&again);
    arena_fini(&a);
    return len;
}

static void an_event_is_told_by_what_differs_from_another(void **state)
{
    struct arena a = {0};
    struct slice other_tags[] = {SLICE("bulk-email"), SLICE("other")};
    struct name_value other_vars[] = {{SLICE("email-id"), SLICE("75f0c1")}};
    struct event model = sample(&a, EVENT_DELIVERED), none = {.type = EVENT_FAILED};
    struct event cases[48];
    size_t count = 0;

    (void)state;
    model.status = (struct delivery_status){
        .present = true, .code = 250, .message = SLICE("OK"), .attempt_no = 1};
#define CASE(change)                                                                               \
    do {                                                                                           \
        struct event *e = &cases[count++];                                                         \
        *e = model;                                                                                \
        e->change;                                                                                 \
    } while (0)
    CASE(type = EVENT_COMPLAINED);
    CASE(severity = SEVERITY_TEMPORARY);
    CASE(domain = SLICE("mg.example.org"));
    CASE(recipient = SLICE("bob@example.net"));
    CASE(message_id = slice_none());
    CASE(reason = SLICE("bounce"));
    CASE(to = SLICE("bob@example.net"));
    CASE(from = SLICE("Other"));
    CASE(subject = slice_none());
    CASE(tags = other_tags);
    CASE(tag_count = 1);
    CASE(tag_count = 0);
    CASE(vars = other_vars);
    CASE(var_count = 0);
    CASE(size_bytes = UINT64_MAX);
    CASE(test_mode = true);
    CASE(delayed_bounce = true);
    CASE(envelope_sender = SLICE("b@mg.example.com"));
    CASE(sending_ip = SLICE("203.0.113.5"));
    CASE(status.present = false);
    CASE(status.code = INT32_MIN);
    CASE(status.message = SLICE("250 fine"));
    CASE(status.description = SLICE("why"));
    CASE(status.enhanced_code = SLICE("2.0.0"));
    CASE(status.mx_host = SLICE("203.0.113.7"));
    CASE(status.attempt_no = 2);
    CASE(status.session_ms = 1234);
    CASE(status.retry_s = UINT32_MAX);
    CASE(ip = SLICE("203.0.113.9"));
    CASE(user_agent = SLICE("Mozilla"));
    CASE(url = SLICE("https://example.com/"));
    CASE(client_name = SLICE("Firefox"));
    CASE(client_os = SLICE("Linux"));
    CASE(client_type = SLICE("browser"));
    CASE(device_type = SLICE("desktop"));
    CASE(bot = SLICE("apple"));
    CASE(ses_id = SLICE("0100"));
    CASE(method = SLICE("http"));
    assert_int_equal(told_by(&model, &model), 4);
    for (size_t i = 0; i < count; i++) {
        (void)told_by(&cases[i], &model);
        (void)told_by(&model, &cases[i]);
        (void)told_by(&cases[i], &none);
    }
    /* Whom it is about is said once. */
    cases[0] = model;
    cases[0].recipient = cases[0].to = SLICE("bob@example.net");
    assert_int_equal(told_by(&cases[0], &model), 4 + 1 + cases[0].to.len);
    (void)told_by(&cases[0], &none);
    arena_fini(&a);
}

/* The parts are really what is said, of events that differ in nothing of them alone. */
static void what_events_of_a_model_share_is_made_once(void **state)
{
    struct arena a = {0};
    struct event model = sample(&a, EVENT_DELIVERED), e = model, back = {0};
    struct event_shared shared = {.arena = &a};
    struct buf like = {0}, json = {0};

    (void)state;
    model.shared = &shared;
    e.recipient = e.to = SLICE("bob@example.net");
    e.status.message = SLICE("250 fine");
    event_pack_like(&like, &e, &model);
    assert_true(event_unpack_like(buf_slice(&like), &model, &a, &back));
    assert_ptr_equal(back.shared, &shared);
    put_both(&json, &back);
    for (size_t i = 0; i < EVENT_PARTS; i++) {
        assert_true(shared.parts[i].len > 0);
        assert_true(slice_find(buf_slice(&json), shared.parts[i]) != SIZE_MAX);
        shared.parts[i] = SLICE("what was made");
    }
    put_both(&json, &back);
    size_t times = 0, at;
    for (; (at = slice_find(buf_slice(&json), SLICE("what was made"))) != SIZE_MAX; times++)
        json.ptr[at] = 'W';
    /* Headers once and the key twice in both; what it is about differs in a log. */
    assert_int_equal(times, 7);
    buf_reset(&like);
    e.subject = SLICE("other");
    event_pack_like(&like, &e, &model);
    assert_true(event_unpack_like(buf_slice(&like), &model, &a, &back));
    assert_null(back.shared);
    back.shared = &shared;
    buf_reset(&like);
    event_pack(&like, &e);
    assert_true(event_unpack(buf_slice(&like), &a, &back));
    assert_null(back.shared);
    buf_fini(&like);
    buf_fini(&json);
    arena_fini(&a);
}

static void what_no_event_can_differ_in_is_refused(void **state)
{
    struct arena a = {0};
    struct event model = sample(&a, EVENT_DELIVERED), e = model;
    static const uint8_t bad[][9] = {
        {5, 0x40, 0, 0, 0, 0},           /* a bit far beyond the members */
        {5, 0x08, 0, 0, 0, 0},           /* the first one beyond them */
        {5, 0, 0, 0, 1, 0},              /* a type of 0 */
        {5, 0, 0, 0, 1, EVENT_TYPE_END}, /* one that is none */
        {5, 0, 0, 0, 2, 3},              /* a severity */
        {6, 0, 1, 0, 0, 0xcc, 0x80},     /* a delivery status without what it says is there */
        {8, 0, 1, 0, 0, 0xcd, 1, 0, 0},  /* with more than there is */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(event_unpack_like(slice_of(bad[i] + 1, bad[i][0]), &model, &a, &e));
    assert_int_equal(e.type, EVENT_DELIVERED);
    arena_fini(&a);
}

static void an_id_follows_from_what_happened(void **state)
{
    struct arena a = {0};
    struct event e = sample(&a, EVENT_DELIVERED), same = e, other = e;
    const struct slice parts[] = {SLICE("ses-id"), SLICE("Delivery"), SLICE("ann@example.net")};
    const struct slice moved[] = {SLICE("ses-i"), SLICE("dDelivery"), SLICE("ann@example.net")};
    struct buf text = {0};

    (void)state;
    event_make_id(&e, parts, 3);
    event_make_id(&same, parts, 3);
    event_make_id(&other, moved, 3);
    assert_memory_equal(e.id, same.id, EVENT_ID_BYTES);
    assert_memory_not_equal(e.id, other.id, EVENT_ID_BYTES);
    uint64_t read = 0, want = e.ses_us / 1000;
    for (size_t i = 0; i < 6; i++)
        read = read << 8 | e.id[i];
    assert_true(read == want);
    event_id_text(&text, e.id);
    assert_int_equal(text.len, 22);
    buf_fini(&text);
    arena_fini(&a);
}

static void types_have_names(void **state)
{
    (void)state;
    for (unsigned i = EVENT_ACCEPTED; i < EVENT_TYPE_END; i++)
        assert_int_equal(event_type_from(slice_str(event_type_name((enum event_type)i))), i);
    assert_int_equal(event_type_from(SLICE("Delivered")), EVENT_DELIVERED);
    assert_int_equal(event_type_from(SLICE("deliver")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delivered_event_is_written_byte_for_byte),
        cmocka_unit_test(failures_say_how_bad_and_why),
        cmocka_unit_test(engagement_names_the_client),
        cmocka_unit_test(the_other_types_have_their_own_members),
        cmocka_unit_test(a_late_event_shows_sess_time_and_an_empty_email_id_is_left_out),
        cmocka_unit_test(a_packed_event_reads_back_and_every_cut_is_refused),
        cmocka_unit_test(events_are_packed_as_they_ever_were),
        cmocka_unit_test(an_event_is_told_by_what_differs_from_another),
        cmocka_unit_test(what_events_of_a_model_share_is_made_once),
        cmocka_unit_test(what_no_event_can_differ_in_is_refused),
        cmocka_unit_test(an_id_follows_from_what_happened),
        cmocka_unit_test(types_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
