/* Lines of the log: what they look like, what they never show, and how often they come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/redact.h"
#include "base/repeats.h"

static int ends[2];
static char taken[65536];

static int begin(void **unused)
{
    (void)unused;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_redaction(true, "");
    log_request(slice_none());
    log_name("writer 0");
    log_sink(ends[1], false);
    return 0;
}

static int finish(void **unused)
{
    (void)unused;
    log_end();
    log_sink(STDERR_FILENO, false);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return 0;
}

/* All that has come, NUL-terminated. */
static const char *lines(void)
{
    ssize_t got = read(ends[0], taken, sizeof taken - 1);

    taken[got > 0 ? got : 0] = '\0';
    return taken;
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, text);
}

static void has_not(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("\"%s\" is in: %s", part, text);
}

static void a_line_of_text_says_when_who_and_what(void **unused)
{
    const struct log_field fields[] = {LOG_TEXT("doing", SLICE("commit \"x\"\n")),
                                       LOG_NUMBER("slot", 3), LOG_TEXT("none", slice_none())};
    (void)unused;
    log_request(SLICE("00112233aabbccdd"));
    log_fields(LOG_LEVEL_WARN, fields, 3, "one %d", 1);
    log_request(slice_none());
    log_info("two");
    const char *text = lines();
    assert_int_equal(text[10], 'T');
    assert_memory_equal(text + 23, "Z warn  writer 0[", 17);
    assert_true(strchr(text, ':') - text < LOG_TEXT_HEAD_BYTES);
    has(text, "]: one 1 request=00112233aabbccdd doing=\"commit \\\"x\\\"\\x0a\" slot=3\n");
    has(text, "]: two\n");
    log_debug("not wanted");
    assert_string_equal(lines(), "");
}

static void the_words_of_a_text_line_begin_where_syslog_cuts(void **unused)
{
    (void)unused;
    log_sink(ends[1], true);
    log_error("words");
    const char *text = lines();
    assert_memory_equal(text, "<3>", 3);
    assert_memory_equal(text + 3 + LOG_TEXT_HEAD_BYTES, "writer 0[", 9);
}

static void a_line_of_json_parses_whatever_is_in_it(void **unused)
{
    char all[300];
    const struct log_field fields[] = {LOG_TEXT("words", SLICE("\"\\\x01\xff\xc3\xa9")),
                                       LOG_NUMBER("n", UINT64_C(9007199254740991))};
    (void)unused;
    for (int i = 0; i < 255; i++)
        all[i] = (char)(i + 1);
    all[255] = '\0';
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_request(SLICE("0011"));
    log_fields(LOG_LEVEL_INFO, fields, 2, "%s", all);
    struct slice line = slice_str(lines());
    assert_int_equal(line.ptr[line.len - 1], '\n');
    assert_int_equal(slice_find_byte(line, '\n'), line.len - 1);
    assert_true(slice_is_utf8(line));
    cJSON *tree = json_parse(slice_head(line, line.len - 1));
    assert_non_null(tree);
    assert_true(slice_eq(json_get_text(tree, "words"), SLICE("\"\\\x01\xef\xbf\xbd\xc3\xa9")));
    assert_true(slice_eq(json_get_text(tree, "request"), SLICE("0011")));
    assert_true(slice_eq(json_get_text(tree, "level"), SLICE("info")));
    assert_true(slice_starts(json_get_text(tree, "message"), SLICE("\x01\x02\x03")));
    int64_t n;
    assert_true(json_get_i64(tree, "n", &n) && n == 9007199254740991);
    json_free(tree);
}

/* Cut anywhere: between an escape's bytes, a character's, within a field. */
static void words_too_long_are_cut_and_still_parse(void **unused)
{
    static char words[5000], text[3000];

    (void)unused;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    for (int shift = 0; shift < 8; shift++) {
        memset(words, 'x', sizeof words - 1);
        for (size_t i = (size_t)shift; i + 3 < sizeof words; i += 3)
            memcpy(words + i, i % 2 == 0 ? "\n\"\\" : "\xe2\x82\xac", 3);
        memcpy(text, words, sizeof text);
        const struct log_field field = LOG_TEXT("long", slice_of(text, sizeof text));
        log_fields(LOG_LEVEL_INFO, &field, 1, "%s", words);
        struct slice line = slice_str(lines());
        assert_true(line.len <= LOG_LINE_BYTES && line.len > 2000);
        cJSON *tree = json_parse(slice_head(line, line.len - 1));
        assert_non_null(tree);
        assert_true(json_get_text(tree, "long").len > 100);
        json_free(tree);
    }
}

static void redacted(const char *words, const char *key, const char *wanted)
{
    char to[512];
    size_t len = redact_addresses(slice_str(words), slice_str(key), to, sizeof to - 1);

    to[len] = '\0';
    assert_string_equal(to, wanted);
}

static void addresses_are_shortened_whatever_is_around_them(void **unused)
{
    (void)unused;
    redacted("no address, @ 12:00, a@, @b", "", "no address, @ 12:00, a@, @b");
    redacted("jo.doe@example.com", "", "j***@example.com");
    redacted("to <jo+x=y@example.com>: 550 <jo+x=y@example.com>... no", "",
             "to <j***@example.com>: 550 <j***@example.com>... no");
    redacted("a@b.c,d@e.f;g@h", "", "a***@b.c,d***@e.f;g***@h");
    redacted("\"jo doe\"@example.com.", "", "***@example.com.");
    redacted("bounces of jo%40example.com", "", "bounces of j***@example.com");
    redacted("j\xc3\xb6@m\xc3\xbcller.de", "", "j***@m\xc3\xbcller.de");
    redacted("\xc3\xb6j@x.de", "", "***@x.de");
    redacted("jo@[192.0.2.1] x", "", "j***@[192.0.2.1] x");
    redacted("a@b@c", "", "a***@b@c");
}

static void with_a_key_the_same_address_has_the_same_digits(void **unused)
{
    char one[64], other[64], third[64], fourth[64];

    (void)unused;
    size_t len = redact_addresses(SLICE("Jo@Example.com"), SLICE("key"), one, sizeof one);
    assert_int_equal(len, strlen("J***~12345678@Example.com"));
    assert_memory_equal(one, "J***~", 5);
    (void)redact_addresses(SLICE("jo@example.com"), SLICE("key"), other, sizeof other);
    (void)redact_addresses(SLICE("jp@example.com"), SLICE("key"), third, sizeof third);
    (void)redact_addresses(SLICE("jo@example.com"), SLICE("kez"), fourth, sizeof fourth);
    assert_memory_equal(one + 5, other + 5, 8);
    assert_memory_not_equal(other + 5, third + 5, 8);
    assert_memory_not_equal(other + 5, fourth + 5, 8);
}

static void no_address_goes_out_in_words_or_fields(void **unused)
{
    struct err err;
    const struct log_field field = LOG_TEXT("to", SLICE("jo@example.com"));

    (void)unused;
    (void)err_set(&err, ERR_INPUT, "no mailbox jo@example.com");
    log_fields(LOG_LEVEL_INFO, &field, 1, "to %s", "jo@example.com");
    log_err(&err, "refused");
    const char *text = lines();
    has_not(text, "jo@");
    has(text, "to j***@example.com to=j***@example.com\n");
    has(text, "refused: no mailbox j***@example.com\n");
    log_redaction(false, "");
    log_info("from %s", "jo@example.com");
    has(lines(), "from jo@example.com\n");
}

static void the_same_words_are_said_once_and_counted(void **unused)
{
    (void)unused;
    for (int i = 0; i < 413; i++)
        log_warn("the ring is full");
    log_warn("another thing");
    const char *text = lines();
    has(text, "]: the ring is full\n");
    assert_null(strstr(strstr(text, "the ring is full") + 5, "the ring is full"));
    has(text, "another thing");
    log_end();
    has(lines(), "\xe2\x80\xa6 412 more in 0 s: the ring is full repeated=412 over_s=0\n");
    log_end();
    assert_string_equal(lines(), "");
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    log_info("each");
    log_info("each");
    text = lines();
    has(strstr(text, "each") + 4, "each");
}

static unsigned told_more, told_count;
static uint64_t told_over_ms;

static void note_told(int level, struct slice words, uint32_t more, uint64_t over_ms)
{
    (void)level, (void)words;
    told_more = more;
    told_over_ms = over_ms;
    told_count++;
}

static void a_window_of_repeats_ends_and_another_begins(void **unused)
{
    static struct repeats r;
    char words[16];

    (void)unused;
    assert_true(repeats_note(&r, 1, SLICE("a"), 1000, note_told));
    assert_false(repeats_note(&r, 1, SLICE("a"), 2000, note_told));
    assert_true(repeats_note(&r, 2, SLICE("a"), 2000, note_told));
    assert_false(repeats_note(&r, 1, SLICE("a"), 1000 + REPEATS_WINDOW_MS - 1, note_told));
    assert_int_equal(told_count, 0);
    assert_true(repeats_note(&r, 1, SLICE("a"), 1000 + REPEATS_WINDOW_MS, note_told));
    assert_int_equal(told_count, 1);
    assert_int_equal(told_more, 2);
    assert_int_equal(told_over_ms, REPEATS_WINDOW_MS);
    /* More kinds of words than places: the oldest is told of and makes room. */
    assert_false(repeats_note(&r, 1, SLICE("a"), 11001, note_told));
    for (unsigned i = 0; i < REPEATS_ROWS; i++) {
        (void)snprintf(words, sizeof words, "b%u", i);
        assert_true(repeats_note(&r, 1, slice_str(words), 11500, note_told));
    }
    assert_int_equal(told_count, 2);
    assert_int_equal(told_more, 1);
}

/* A reader that has stopped: nothing waits, and what was lost is told when it reads again. */
static void a_sink_that_takes_nothing_holds_nobody_up(void **unused)
{
    int written = 0;

    (void)unused;
    for (; written < 100000; written++)
        log_info("line %d", written);
    while (read(ends[0], taken, sizeof taken) > 0)
        ;
    log_info("after");
    const char *text = lines();
    has(text, "lines were lost");
    has(text, "after\n");
    assert_true(strstr(text, "lost") < strstr(text, "after"));
}

static char heard[128];

static void hear(struct slice words)
{
    (void)snprintf(heard, sizeof heard, "%.*s", SLICE_ARGS(words));
}

static void errors_are_heard_without_their_addresses(void **unused)
{
    (void)unused;
    log_listener(hear);
    log_error("lost jo@example.com");
    log_warn("no error");
    log_listener(NULL);
    assert_string_equal(heard, "lost j***@example.com");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_of_text_says_when_who_and_what, begin, finish),
        cmocka_unit_test_setup_teardown(the_words_of_a_text_line_begin_where_syslog_cuts, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(a_line_of_json_parses_whatever_is_in_it, begin, finish),
        cmocka_unit_test_setup_teardown(words_too_long_are_cut_and_still_parse, begin, finish),
        cmocka_unit_test(addresses_are_shortened_whatever_is_around_them),
        cmocka_unit_test(with_a_key_the_same_address_has_the_same_digits),
        cmocka_unit_test_setup_teardown(no_address_goes_out_in_words_or_fields, begin, finish),
        cmocka_unit_test_setup_teardown(the_same_words_are_said_once_and_counted, begin, finish),
        cmocka_unit_test(a_window_of_repeats_ends_and_another_begins),
        cmocka_unit_test_setup_teardown(a_sink_that_takes_nothing_holds_nobody_up, begin, finish),
        cmocka_unit_test_setup_teardown(errors_are_heard_without_their_addresses, begin, finish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
