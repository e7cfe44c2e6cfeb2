#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/ses_mail.h"

/* One message, as mail/mime_clean leaves it, and two readers. */
struct letter {
    struct arena arena;
    struct message_head head;
    struct message_content content;
    struct name_value first_vars[4], second_vars[1];
    struct recipient readers[2];
    struct render_keys keys;
    struct ses_setup setup;
    struct ses_scratch scratch;
    struct buf body, mime;
    struct err err;
};

static void setup(struct letter *l, bool batch_mode, const char *from, struct slice mime)
{
    *l = (struct letter){0};
    l->head = (struct message_head){.domain = SLICE("mg.example.com"),
                                    .message_id = SLICE("1@mg.example.com"),
                                    .recipient_count = 2,
                                    .batch_mode = batch_mode};
    l->content =
        (struct message_content){.from = slice_str(from), .batch_mode = batch_mode, .mime = mime};
    l->first_vars[0] = (struct name_value){SLICE("a"), SLICE("Zoë")};
    l->first_vars[1] = (struct name_value){
        SLICE("evil"), SLICE("x\" <z@evil.example>,\r\nBcc: z@evil.example\r\n\r\n--b\r\n\r\nx")};
    l->first_vars[2] = (struct name_value){SLICE("u"), SLICE("https://e.com/?a=1&b=,")};
    l->first_vars[3] = (struct name_value){SLICE("empty"), SLICE("")};
    l->second_vars[0] = (struct name_value){SLICE("a"), SLICE("%recipient.u%")};
    l->readers[0] = (struct recipient){.address = SLICE("ann@readers.example"),
                                       .name = SLICE("Ann, A."),
                                       .vars = l->first_vars,
                                       .var_count = 4};
    l->readers[1] = (struct recipient){
        .address = SLICE("bob@readers.example"), .vars = l->second_vars, .var_count = 1};
    for (size_t i = 0; i < 4; i++)
        render_keys_add(&l->keys, &l->arena, l->first_vars[i].name);
}

/* The raw message of the reader, in l->mime, and the call's FromEmailAddress. */
static enum ses_fit render(struct letter *l, uint64_t mask)
{
    struct ses_batch *b = ses_batch_compile(&l->head, &l->content, &l->keys, &l->setup, &l->arena);

    assert_int_equal(ses_batch_way(b), SES_RAW);
    buf_reset(&l->body);
    buf_reset(&l->mime);
    enum ses_fit fit =
        ses_render_one(b, SES_RAW, l->readers, 2, mask, 0, &l->scratch, &l->body, &l->err);
    if (fit != SES_FITS)
        return fit;
    cJSON *tree = json_parse(buf_slice(&l->body));
    assert_non_null(tree);
    assert_true(text_from_base64(
        &l->mime, json_get_text(json_get(json_get(tree, "Content"), "Raw"), "Data")));
    json_free(tree);
    return fit;
}

static void is(struct letter *l, uint64_t mask, const char *want)
{
    if (render(l, mask) != SES_FITS)
        fail_msg("refused: %s", l->err.text);
    if (!slice_eq(buf_slice(&l->mime), slice_str(want)))
        fail_msg("got\n%s\nwant\n%s", buf_cstr(&l->mime), want);
}

static void teardown(struct letter *l)
{
    buf_fini(&l->body);
    buf_fini(&l->mime);
    ses_scratch_fini(&l->scratch);
    arena_fini(&l->arena);
}

#define PLAIN                                                                                      \
    "From: n@mg.example.com\r\nTo: %recipient%\r\nSubject: %recipient.a%\r\n\r\n%recipient.a%"

static void without_variables_the_bytes_go_out_as_they_are(void **unused)
{
    struct letter l;

    (void)unused;
    setup(&l, false, "n@mg.example.com", SLICE(PLAIN));
    is(&l, 3, PLAIN);
    const struct slice both =
        SLICE("\"ToAddresses\":[\"ann@readers.example\",\"bob@readers.example\"]");
    assert_int_not_equal(slice_find(buf_slice(&l.body), both), SIZE_MAX);
    teardown(&l);
}

static void user_variables_stand_before_the_rest(void **unused)
{
    struct name_value vars[] = {{SLICE("k"), SLICE("v")}};
    struct letter l;

    (void)unused;
    setup(&l, false, "n@mg.example.com", SLICE(PLAIN));
    l.content.vars = vars;
    l.content.var_count = 1;
    is(&l, 1, "X-Mailgun-Variables: {\"k\":\"v\"}\r\n" PLAIN);
    teardown(&l);
}

static void each_reader_has_a_text_of_its_own(void **unused)
{
    struct letter l;

    (void)unused;
    setup(&l, true, "n@mg.example.com", SLICE(PLAIN));
    is(&l, 1,
       "From: n@mg.example.com\r\nTo: \"Ann, A.\" <ann@readers.example>\r\n"
       "Subject: =?utf-8?B?Wm/Dqw==?=\r\nContent-Transfer-Encoding: quoted-printable\r\n"
       "Content-Type: text/plain; charset=utf-8\r\n\r\nZo=C3=AB");
    is(&l, 2,
       "From: n@mg.example.com\r\nTo: bob@readers.example\r\nSubject: %recipient.u%\r\n"
       "Content-Transfer-Encoding: quoted-printable\r\n"
       "Content-Type: text/plain; charset=utf-8\r\n\r\n%recipient.u%");
    teardown(&l);
}

#define HEAD  "From: n@mg.example.com\r\nTo: all@mg.example.com\r\n"
#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
#define QP    "Content-Transfer-Encoding: quoted-printable\r\n"
#define UTF8  "Content-Type: text/plain; charset=utf-8\r\n"
#define PDF                                                                                        \
    "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"                   \
    "JXJlY2lwaWVudC5hJQ==\r\n"
#define ATTACHED                                                                                   \
    "Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\n%recipient.a%\r\n"
#define INNER "Content-Type: message/rfc822\r\n\r\nSubject: %recipient.a%\r\n\r\n%recipient.a%\r\n"

static void only_what_holds_variables_is_written_anew(void **unused)
{
    struct letter l;

    (void)unused;
    setup(&l, true, "n@mg.example.com",
          SLICE(HEAD MIXED "--b\r\n" UTF8 QP "\r\n=41 =25recipi=\r\nent.a%\r\n\r\n--b\r\n"
                           "Content-Type: text/html; charset=iso-8859-1\r\n"
                           "Content-Transfer-Encoding: base64\r\n\r\n5CAlcmVjaXBpZW50LmEl\r\n"
                           "--b\r\n\r\n%recipient.a%\r\n--b\r\n\r\n=41 100%, %recipient.nope%\r\n"
                           "--b\r\n" PDF "--b\r\n" ATTACHED "--b\r\n" INNER "--b--\r\n"));
    is(&l, 1,
       HEAD MIXED "--b\r\n" UTF8 QP "\r\nA Zo=C3=AB\r\n\r\n--b\r\n"
                  "Content-Type: text/html; charset=utf-8\r\n"
                  "Content-Transfer-Encoding: base64\r\n\r\nw6QgWm/Dqw==\r\n"
                  "--b\r\n" QP UTF8 "\r\nZo=C3=AB\r\n--b\r\n\r\n=41 100%, %recipient.nope%\r\n"
                  "--b\r\n" PDF "--b\r\n" ATTACHED "--b\r\n" INNER "--b--\r\n");
    teardown(&l);
}

static void values_stay_where_they_are_put(void **unused)
{
    struct letter l;

    (void)unused;
    setup(&l, true, "\"%recipient.evil%\" <n@mg.example.com>",
          SLICE("From: \"%recipient.evil%\" <n@mg.example.com>\r\n"
                "To: %recipient.evil% <%recipient_email%>\r\nSubject: %recipient.evil%\r\n"
                "X-A: %recipient.evil%\r\n" MIXED "--b\r\n" UTF8 QP "\r\n%recipient.evil%\r\n"
                "--b--\r\n"));
    is(&l, 1,
       "From: \"x\\\" <z@evil.example>,  Bcc: z@evil.example    --b    x\"\r\n"
       " <n@mg.example.com>\r\n"
       "To: \"x\\\" <z@evil.example>,  Bcc: z@evil.example    --b    x\"\r\n"
       " <ann@readers.example>\r\n"
       "Subject: x\" <z@evil.example>,  Bcc: z@evil.example    --b    x\r\n"
       "X-A: x\" <z@evil.example>,  Bcc: z@evil.example    --b    x\r\n" MIXED "--b\r\n" UTF8 QP
       "\r\nx\" <z@evil.example>,\r\nBcc: z@evil.example\r\n\r\n=2D-b\r\n\r\nx\r\n--b--\r\n");
    const struct slice sender = SLICE("{\"FromEmailAddress\":\"\\\"x\\\\\\\" <z@evil.example>,  "
                                      "Bcc: z@evil.example    --b    x\\\" "
                                      "<n@mg.example.com>\"");
    assert_int_equal(slice_find(buf_slice(&l.body), sender), 0);
    teardown(&l);
}

static void readers_do_not_see_each_other(void **unused)
{
    struct letter l;

    (void)unused;
    setup(&l, true, "n@mg.example.com",
          SLICE("From: n@mg.example.com\r\nTo: ann@readers.example, bob@readers.example\r\n\r\nx"));
    is(&l, 2, "From: n@mg.example.com\r\nTo: bob@readers.example\r\n\r\nx");
    teardown(&l);
    setup(&l, true, "n@mg.example.com", SLICE("From: n@mg.example.com\r\n\r\nx"));
    is(&l, 2, "From: n@mg.example.com\r\nTo: bob@readers.example\r\n\r\nx");
    teardown(&l);
}

static void headers_fall_out_as_they_do_elsewhere(void **unused)
{
    struct letter l;

    (void)unused;
    setup(&l, true, "n@mg.example.com",
          SLICE(HEAD "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
                     "List-Unsubscribe: <%recipient.u%>, <%tag_unsubscribe_email%>\r\n"
                     "X-Unknown: %recipient.nope%\r\nX-Empty: %recipient.empty%\r\n"
                     "Cc: %recipient.a% <c@d>\r\nReply-To: <%recipient.u%>\r\n"
                     "Subject: %recipient.nope%\r\n\r\nx"));
    is(&l, 1,
       HEAD "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
            "List-Unsubscribe: <https://e.com/?a=1&b=,>\r\n"
            "Cc: =?utf-8?B?Wm/Dqw==?= <c@d>\r\nSubject: %recipient.nope%\r\n\r\nx");
    is(&l, 2, HEAD "Cc: \"%recipient.u%\" <c@d>\r\nSubject: %recipient.nope%\r\n\r\nx");
    teardown(&l);
}

/* A reader's value of a megabyte, named 1,500 times between these two. */
static void is_too_large(const char *before, const char *after, const char *why)
{
    enum { BIG_BYTES = 1 << 20, NAMED = 1500, ROOM_BYTES = 4 << 20 };
    static uint8_t big[BIG_BYTES];
    struct letter l;
    struct buf names = {0}, mime = {0};

    memset(big, 'x', sizeof big);
    for (int i = 0; i < NAMED; i++)
        buf_add_str(&names, i % 40 == 0 ? "\r\n %recipient.a%" : "%recipient.a%");
    buf_add_str(&mime, before);
    buf_add_slice(&mime, buf_slice(&names));
    buf_add_str(&mime, after);
    setup(&l, true, "news@mg.example.com", buf_slice(&mime));
    l.first_vars[0].value = slice_of(big, sizeof big);
    assert_int_equal(render(&l, 1), SES_REFUSED);
    if (slice_find(slice_str(l.err.text), slice_str(why)) == SIZE_MAX)
        fail_msg("%s, not %s", l.err.text, why);
    assert_true(l.body.cap + l.scratch.text.cap + l.scratch.header.cap + l.scratch.mime.cap <
                ROOM_BYTES);
    assert_int_equal(render(&l, 2), SES_FITS);
    buf_fini(&names);
    buf_fini(&mime);
    teardown(&l);
}

static void what_is_too_large_is_refused_before_it_is_made(void **unused)
{
    (void)unused;
    is_too_large("From: a@mg.example.com\r\nSubject: s\r\n\r\n", "", "The mail has 1572");
    is_too_large("From: a@mg.example.com\r\nSubject: ", "\r\n\r\nx", "Header Subject: would have");
    is_too_large("From: a@mg.example.com\r\nX-Long: ", "\r\n\r\nx", "Header X-Long: would have");
    is_too_large("Subject: s\r\nFrom: \"", "\" <a@mg.example.com>\r\n\r\nx",
                 "Header From: would have");
    is_too_large("From: a@mg.example.com\r\nTo: \"", "\" <%recipient_email%>\r\n\r\nx",
                 "Header To: would have");
}

/* Below the limit as text, beyond it as quoted-printable. */
static void growth_by_encoding_counts(void **unused)
{
    enum { BYTES = 14000000, ROOM_BYTES = 1 << 20 };
    struct letter l;
    uint8_t *control = malloc(BYTES);

    (void)unused;
    assert_non_null(control);
    memset(control, 1, BYTES);
    setup(&l, true, "news@mg.example.com",
          SLICE("From: a@mg.example.com\r\nSubject: s\r\n\r\n%recipient.a%"));
    l.first_vars[0].value = slice_of(control, BYTES);
    assert_int_equal(render(&l, 1), SES_REFUSED);
    assert_non_null(strstr(l.err.text, "The mail has 43"));
    assert_true(l.body.cap + l.scratch.mime.cap < ROOM_BYTES);
    free(control);
    teardown(&l);
}

static void what_makes_no_mail_is_refused(void **unused)
{
    struct buf mime = {0};
    struct letter l;

    (void)unused;
    setup(&l, true, "<%recipient.empty%>", SLICE("From: <%recipient.empty%>\r\n\r\nx"));
    assert_int_equal(render(&l, 1), SES_REFUSED);
    assert_string_equal(l.err.text, "Sender: is not an address that SES can take");
    teardown(&l);
    buf_add_str(&mime, HEAD "X-A: %recipient.a%");
    for (int i = 0; i < 970; i++)
        buf_add_byte(&mime, 'x');
    buf_add_str(&mime, "%recipient.u%%recipient.u%\r\n\r\nx");
    setup(&l, true, "n@mg.example.com", buf_slice(&mime));
    l.first_vars[0].value = SLICE("x");
    assert_int_equal(render(&l, 1), SES_REFUSED);
    assert_string_equal(l.err.text, "Header X-A: holds a word longer than a mail line");
    teardown(&l);
    setup(&l, true, "n@mg.example.com", SLICE("no message"));
    assert_int_equal(render(&l, 1), SES_REFUSED);
    teardown(&l);
    buf_fini(&mime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_variables_the_bytes_go_out_as_they_are),
        cmocka_unit_test(user_variables_stand_before_the_rest),
        cmocka_unit_test(each_reader_has_a_text_of_its_own),
        cmocka_unit_test(only_what_holds_variables_is_written_anew),
        cmocka_unit_test(values_stay_where_they_are_put),
        cmocka_unit_test(readers_do_not_see_each_other),
        cmocka_unit_test(headers_fall_out_as_they_do_elsewhere),
        cmocka_unit_test(what_is_too_large_is_refused_before_it_is_made),
        cmocka_unit_test(growth_by_encoding_counts),
        cmocka_unit_test(what_makes_no_mail_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
