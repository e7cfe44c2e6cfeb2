/*
 * Whose event is it? With the batch in the store and without it, however SES spells the address.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/pack.h"
#include "store/batch_write.h"

#include "poller/poller.c"

enum { BATCH = 0x1f0a, READERS = 60 };

struct world {
    char dir[64];
    struct config config;
    struct config_domain domains[2];
    struct child me;
    struct poller p;
    struct store_txn *t;
    uint64_t elsewhere; /* what complete() said last */
};

static void put_batch(struct store_txn *t, uint64_t id, bool batch_mode)
{
    struct name_value vars[] = {{SLICE("email-id"), SLICE("65f0c1")}};
    struct message_head h = {.domain = SLICE("mg.example.com"),
                             .message_id = SLICE("m@mg.example.com"),
                             .subject = SLICE("S"),
                             .vars = vars,
                             .var_count = 1,
                             .batch_mode = batch_mode,
                             .recipient_count = READERS};
    struct recipient list[READERS] = {0};
    char text[READERS][32];
    uint8_t duplicate[READERS] = {0};
    struct buf head = {0}, slices = {0}, one = {0};
    struct err err = {0};

    for (size_t i = 0; i < READERS; i++) {
        (void)snprintf(text[i], sizeof text[i], "R%zu@readers.example", i);
        list[i].address = slice_str(text[i]);
    }
    list[3].address = SLICE("Zo@bücher.example");
    list[4].address = SLICE("\"ann.b\"@readers.example");
    list[58] = (struct recipient){.kind = RECIPIENT_CC, .address = SLICE("Desk@mg.example.com")};
    list[59] = (struct recipient){.kind = RECIPIENT_BCC, .address = SLICE("archive@ünï.example")};
    pack_array(&slices, 2);
    for (size_t i = 0; i < READERS; i += MESSAGE_SLICE) {
        buf_reset(&one);
        recipients_pack(&one, list + i, READERS - i < MESSAGE_SLICE ? READERS - i : MESSAGE_SLICE);
        pack_bin(&slices, buf_slice(&one));
    }
    message_head_pack(&head, &h);
    assert_int_equal(batch_insert(t,
                                  &(struct new_batch){.id = id,
                                                      .head = buf_slice(&head),
                                                      .content = SLICE("c"),
                                                      .slices = buf_slice(&slices),
                                                      .domain = h.domain,
                                                      .message_id = h.message_id,
                                                      .recipient_count = READERS,
                                                      .duplicate = duplicate},
                                  &err),
                     1);
    buf_fini(&head), buf_fini(&slices), buf_fini(&one);
}

static int make_world(void **state)
{
    static char ours[] = "mg.example.com", other[] = "other.example", empty[1];
    struct world *w = mem_zero(1, sizeof *w);
    struct err err = {0};

    (void)snprintf(w->dir, sizeof w->dir, "/tmp/test_poller.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->p.store = store_open(w->dir, STORE_WRITE, &err);
    struct store_txn *t = store_begin_write(w->p.store, &err);
    put_batch(t, BATCH, true);
    put_batch(t, BATCH + 1, false);
    assert_int_equal(store_commit(t, &err), 0);
    w->domains[0].name = ours;
    w->domains[1].name = other;
    w->config.domains = w->domains;
    w->config.domain_count = 2;
    w->config.queues.newsletter_buffer = empty;
    w->me.config = &w->config;
    w->p.me = &w->me;
    w->t = store_begin_read(w->p.store, &err);
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    struct world *w = *state;
    char command[128];

    store_end_read(w->t);
    store_close(w->p.store);
    arena_fini(&w->p.arena);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

/* An event as mail/ses_event gives it, of a mail with two destinations. */
static struct ses_event event_of(uint64_t batch, uint32_t recipient, const char *address)
{
    return (struct ses_event){.event = {.type = EVENT_DELIVERED, .recipient = slice_str(address)},
                              .settles = true,
                              .batch_id = batch,
                              .recipient = recipient,
                              .has_recipient = true,
                              .address = slice_str(address),
                              .destinations = 2,
                              .from_domain = SLICE("mg.example.com")};
}

static void a_reader_is_found_however_the_address_is_spelled(void **state)
{
    static const struct {
        uint32_t tagged;
        const char *spelled;
        uint32_t found;
        const char *known;
    } cases[] = {
        {7, "R7@readers.example", 7, "R7@readers.example"},
        {7, "r7@READERS.example", 7, "R7@readers.example"},
        {7, "\"R7\"@readers.example", 7, "R7@readers.example"},
        {3, "zo@xn--bcher-kva.example", 3, "Zo@bücher.example"},
        {3, "ZO@BÜCHER.example", 3, "Zo@bücher.example"},
        {4, "ann.b@readers.example", 4, "\"ann.b\"@readers.example"},
        {4, "\"ann\\.b\"@Readers.Example", 4, "\"ann.b\"@readers.example"},
        {7, "desk@MG.example.com", 58, "Desk@mg.example.com"}, /* a copy of 7's mail */
        {7, "\"Desk\"@mg.example.com", 58, "Desk@mg.example.com"},
        {7, "Archive@xn--n-tgab.example", 7, "R7@readers.example"}, /* nobody's */
        {7, "forwarded@elsewhere.example", 7, "R7@readers.example"},
        {7, "r8@readers.example", 7, "R7@readers.example"}, /* another mail's reader is no copy */
    };
    struct world *w = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ses_event e = event_of(BATCH, cases[i].tagged, cases[i].spelled);
        assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
        assert_int_equal(e.batch_id, BATCH);
        assert_true(e.settles);
        assert_int_equal(e.recipient, cases[i].found);
        if (!slice_eq(e.event.recipient, slice_str(cases[i].known)))
            fail_msg("%s: %.*s", cases[i].spelled, SLICE_ARGS(e.event.recipient));
        assert_int_equal(e.event.var_count, 1);
    }
}

static void of_several_recipients_of_one_mail_a_strange_one_is_told_but_settles_nobody(void **state)
{
    struct world *w = *state;
    struct ses_event e = event_of(BATCH + 1, 0, "r9@readers.example");

    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(e.recipient, 9);
    assert_true(e.settles);
    e = event_of(BATCH + 1, 0, "forwarded@elsewhere.example");
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(e.batch_id, BATCH + 1);
    assert_false(e.settles);
    assert_true(slice_eq(e.event.recipient, SLICE("forwarded@elsewhere.example")));
    assert_true(slice_eq(e.event.message_id, SLICE("m@mg.example.com")));
}

/* Past retention, of another machine, or before its send's answer on this one. */
static void without_its_batch_an_event_goes_where_it_says_itself(void **state)
{
    struct world *w = *state;
    struct ses_event e = event_of(0xdead, 7, "r7@readers.example");

    e.event.domain = SLICE("other.example"); /* by postern-meta */
    e.event.message_id = SLICE("their@other.example");
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(e.batch_id, 0xdead); /* counted for it, but it settles nobody here */
    assert_false(e.settles);
    assert_true(slice_eq(e.event.domain, SLICE("other.example")));
    assert_true(slice_eq(e.event.message_id, SLICE("their@other.example")));

    e = event_of(0, 0, "r7@readers.example"); /* no tags at all: by the sender */
    e.from_domain = SLICE("news.sub.other.example");
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_true(slice_eq(e.event.domain, SLICE("other.example")));

    e = event_of(BATCH, READERS, "r7@readers.example"); /* no such recipient */
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(e.batch_id, 0);

    e = event_of(BATCH, 7, "r7@readers.example"); /* of that number, and not ours */
    e.event.domain = SLICE("other.example");
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(e.batch_id, 0);
    assert_true(slice_eq(e.event.domain, SLICE("other.example")));
    assert_true(slice_eq(e.event.recipient, SLICE("r7@readers.example")));

    e = event_of(0xdead, 7, "r7@readers.example");
    e.from_domain = SLICE("stranger.example");
    assert_false(complete(&w->p, w->t, &e, &w->elsewhere));
    e.from_domain = slice_none();
    assert_false(complete(&w->p, w->t, &e, &w->elsewhere));
}

/* Its batch may come from the buffer queue yet: then who has been served must be known, by the place
 * in the batch and by the claim that a POST would make. */
static void with_a_buffer_queue_an_event_of_a_batch_elsewhere_is_noted(void **state)
{
    static char url[] = "https://sqs.eu-west-1.amazonaws.com/1/b.fifo";
    struct world *w = *state;
    struct ses_event e = event_of(0xdead, 7, "Ann@Readers.example");
    struct name_value vars[] = {{SLICE("email-id"), SLICE("65f0c1")}};
    struct recipient posted = {.address = SLICE("Ann@readers.EXAMPLE")};
    struct buf of_event = {0}, of_post = {0};

    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(w->elsewhere, 0);
    w->config.queues.newsletter_buffer = url;
    e = event_of(0xdead, 7, "Ann@Readers.example");
    e.destinations = 1;
    e.event.vars = vars;
    e.event.var_count = 1;
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(w->elsewhere, 0xdead);
    add_claim(&e, &of_event);
    const struct submission s = {
        .head = {.domain = SLICE("mg.example.com"), .email_id = SLICE("65f0c1")},
        .recipients = &posted,
        .recipient_count = 1};
    submission_claims(&s, &of_post);
    assert_int_equal(of_post.len, CLAIM_BYTES);
    assert_true(slice_eq(buf_slice(&of_event), buf_slice(&of_post)));
    buf_fini(&of_event);
    buf_fini(&of_post);

    w->elsewhere = 0; /* what proves nothing, or is of a batch that is here, is not noted */
    e = event_of(0xdead, 7, "r7@readers.example");
    e.settles = false;
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    e = event_of(BATCH, 7, "r7@readers.example");
    assert_true(complete(&w->p, w->t, &e, &w->elsewhere));
    assert_int_equal(w->elsewhere, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_reader_is_found_however_the_address_is_spelled,
                                        make_world, end_world),
        cmocka_unit_test_setup_teardown(
            of_several_recipients_of_one_mail_a_strange_one_is_told_but_settles_nobody, make_world,
            end_world),
        cmocka_unit_test_setup_teardown(with_a_buffer_queue_an_event_of_a_batch_elsewhere_is_noted,
                                        make_world, end_world),
        cmocka_unit_test_setup_teardown(without_its_batch_an_event_goes_where_it_says_itself,
                                        make_world, end_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
