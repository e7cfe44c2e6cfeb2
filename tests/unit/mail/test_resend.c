#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mail/resend.h"

#define NOW_US UINT64_C(1795431600000000)

struct call {
    struct arena arena;
    struct stored_message m;
    struct submission s;
    struct refusal why;
};

static const struct submission_context context = {
    .now_us = NOW_US,
    .random = 7,
};

static struct call call_of(bool batch_mode)
{
    return (struct call){
        .m = {.head = {.domain = SLICE("mg.example.com"),
                       .message_id = SLICE("old@mg.example.com"),
                       .email_id = SLICE("e1"),
                       .from = SLICE("Ann <ann@mg.example.com>"),
                       .to = SLICE("bob@x.example"),
                       .subject = SLICE("s"),
                       .batch_mode = batch_mode,
                       .message_id_per_recipient = batch_mode,
                       .accepted_wall_us = 1,
                       .due_wall_ms = 5,
                       .lane = batch_mode,
                       .recipient_count = 1},
              .content = {.from = SLICE("Ann <ann@mg.example.com>"),
                          .text = SLICE("hello"),
                          .batch_mode = batch_mode}},
    };
}

static bool again(struct call *c, struct form_field *fields, size_t count)
{
    const struct form form = {.fields = fields, .count = count};
    struct submission_context here = context;

    here.domain = here.path_domain = SLICE("mg.example.com");
    return submission_again(&form, &c->m, &here, &c->arena, &c->s, &c->why);
}

static void is(struct slice got, const char *want)
{
    if (!slice_eq(got, slice_str(want)))
        fail_msg("got '%.*s', want '%s'", SLICE_ARGS(got), want);
}

static void what_is_sent_again_is_a_message_of_its_own(void **state)
{
    struct call c = call_of(false);
    struct form_field to[] = {{.name = SLICE("to"), .value = SLICE("a@x.example, A@x.example")},
                              {.name = SLICE("to"), .value = SLICE("Bo <b@x.example>")}};

    (void)state;
    assert_true(again(&c, to, 2));
    assert_int_equal(c.s.recipient_count, 2);
    assert_int_equal(c.s.head.recipient_count, 2);
    is(c.s.recipients[1].name, "Bo");
    is(c.s.head.to, "a@x.example, A@x.example, Bo <b@x.example>");
    is(c.s.content.text, "hello");
    is(c.s.head.subject, "s");
    is(c.s.head.email_id, "");
    assert_int_equal(c.s.head.due_wall_ms, 0);
    assert_int_equal(c.s.head.accepted_wall_us, NOW_US);
    is(c.s.answer_id, "<20261123110000.0000000000000007@mg.example.com>");
    is(c.s.head.message_id, "20261123110000.0000000000000007@mg.example.com");
    arena_fini(&c.arena);
}

static void of_a_batch_each_gets_the_variables_that_he_had(void **state)
{
    struct call c = call_of(true);
    struct name_value red = {SLICE("colour"), SLICE("red")},
                      blue = {SLICE("colour"), SLICE("blue")};
    struct recipient had[] = {
        {.address = SLICE("Zoe@X.example"), .name = SLICE("Zoe"), .vars = &red, .var_count = 1},
        {.address = SLICE("al@x.example"), .vars = &blue, .var_count = 1},
        {.address = SLICE("al@x.exampl"), .vars = &red, .var_count = 1}};
    struct form_field to[] = {
        {.name = SLICE("to"), .value = SLICE("zoe@x.example, new@x.example, AL@x.example")}};

    (void)state;
    c.m.recipients = had;
    c.m.recipient_count = 3;
    assert_true(again(&c, to, 1));
    assert_int_equal(c.s.recipient_count, 3);
    is(c.s.recipients[0].vars[0].value, "red");
    is(c.s.recipients[0].name, "Zoe");
    is(c.s.recipients[0].address, "zoe@x.example");
    assert_int_equal(c.s.recipients[1].var_count, 0);
    is(c.s.recipients[2].vars[0].value, "blue");
    is(c.s.head.to, "");
    assert_false(c.s.head.message_id_per_recipient);
    assert_int_equal(c.s.head.lane, 1);
    arena_fini(&c.arena);
}

static void a_whole_message_keeps_all_but_its_id(void **state)
{
    struct call c = call_of(false);
    struct form_field to[] = {{.name = SLICE("to"), .value = SLICE("new@x.example")}};

    (void)state;
    c.m.content.mime = SLICE("From: Ann <ann@mg.example.com>\r\nTo: bob@x.example\r\n"
                             "Message-Id: <old@mg.example.com>\r\nX-Kind: 1\r\n\r\nhello\r\n");
    assert_true(again(&c, to, 1));
    is(c.s.head.to, "bob@x.example");
    assert_int_not_equal(slice_find(c.s.content.mime, c.s.answer_id), SIZE_MAX);
    assert_int_equal(slice_find(c.s.content.mime, SLICE("old@mg")), SIZE_MAX);
    assert_int_not_equal(slice_find(c.s.content.mime, SLICE("To: bob@x.example\r\n")), SIZE_MAX);
    assert_int_not_equal(slice_find(c.s.content.mime, SLICE("\r\n\r\nhello\r\n")), SIZE_MAX);
    arena_fini(&c.arena);
}

static void what_is_not_a_list_of_addresses_is_refused(void **state)
{
    static const struct {
        const char *name, *value, *why;
    } cases[] = {
        {"to", "", "to parameter is missing"},
        {"to", "nobody", "to parameter is not a valid address. please check documentation"},
        {"to", ",", "to parameter is not a valid address. please check documentation"},
        {"text", "other",
         "'text' parameter is not allowed: a stored message is sent again as it "
         "is, and takes 'to' only"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct call c = call_of(false);
        struct form_field field = {.name = slice_str(cases[i].name),
                                   .value = slice_str(cases[i].value)};
        assert_false(again(&c, &field, 1));
        assert_int_equal(c.why.status, 400);
        is(c.why.message, cases[i].why);
        arena_fini(&c.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sent_again_is_a_message_of_its_own),
        cmocka_unit_test(of_a_batch_each_gets_the_variables_that_he_had),
        cmocka_unit_test(a_whole_message_keeps_all_but_its_id),
        cmocka_unit_test(what_is_not_a_list_of_addresses_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
