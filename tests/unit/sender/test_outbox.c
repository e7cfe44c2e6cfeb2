#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/pack.h"
#include "sender/cuts.h"
#include "sender/outbox.h"
#include "sender/rate.h"
#include "shm/record.h"
#include "store/batches.h"
#include "store/suppressions.h"

/*
 * The outbox with its rings and marks as they are, and two seams: SES (aws_call() notes the call,
 * the test answers it) and the store (a few batches, made here).
 */
enum {
    CALLS_MAX = 256,
    NEWS = 1,
    NEWS_B = 2,
    TRANSACTIONAL = 3,
    OTHER_FROM = 4,
    COPIED = 5,
    LAST = COPIED
};

static struct {
    struct aws_request calls[CALLS_MAX];
    struct buf bodies[CALLS_MAX];
    size_t call_count, answered;
    bool store_is_there, no_credentials;
    bool with_copies; /* the last two of slice 0 and all of slice 1 are cc */
    struct books books;
    struct started *started; /* when set: lease 5 in cell 5 must be marked before each call */
} seam;

void aws_call(struct aws_client *c, const struct aws_request *request)
{
    (void)c;
    assert_true(seam.call_count < CALLS_MAX);
    if (seam.started != NULL) {
        uint64_t marked;
        assert_true(started_read(seam.started, 0, 5, 5, &marked));
        assert_int_equal(__builtin_popcountll(marked), seam.call_count + 1);
    }
    buf_add_slice(&seam.bodies[seam.call_count], request->body);
    seam.calls[seam.call_count++] = *request;
}

bool aws_can_sign(struct aws_client *c)
{
    (void)c;
    return !seam.no_credentials;
}

enum aws_reaction aws_send_reaction(const struct aws_response *answer)
{
    switch (answer->fate) {
    case AWS_NOT_SENT:
        return AWS_TRANSIENT;
    case AWS_CUT_SHORT:
        return AWS_CUT_OFF;
    case AWS_UNKNOWN:
        return AWS_IN_DOUBT;
    case AWS_ANSWERED:
        break;
    }
    switch (answer->status) {
    case 200:
        return AWS_OK;
    case 429:
        return AWS_THROTTLED;
    case 403:
        return AWS_HOLD_SENDER;
    case 404:
        return AWS_HOLD_CONFIGURATION_SET;
    case 454:
        return AWS_QUOTA;
    default:
        return AWS_PERMANENT;
    }
}

struct store *store_open(const char *state_dir, enum store_mode mode, struct err *err)
{
    (void)state_dir, (void)mode;
    if (!seam.store_is_there) {
        err_set(err, ERR_NOT_FOUND, "no store yet");
        return NULL;
    }
    return (struct store *)(void *)&seam;
}

void store_close(struct store *s)
{
    (void)s;
}

struct store_txn *store_begin_read(struct store *s, struct err *err)
{
    (void)err;
    return (struct store_txn *)(void *)s;
}

void store_end_read(struct store_txn *t)
{
    (void)t;
}

const struct config_domain *config_domain_find(const struct config *c, struct slice name)
{
    for (size_t i = 0; i < c->domain_count; i++)
        if (slice_eq(slice_str(c->domains[i].name), name))
            return &c->domains[i];
    return NULL;
}

static struct buf packed; /* of the last thing read; the outbox copies what it keeps */

bool batch_head(struct store_txn *t, uint64_t batch_id, struct slice *out)
{
    struct message_head h = {.domain = batch_id == NEWS_B ? SLICE("b.example") : SLICE("a.example"),
                             .message_id = SLICE("id@a.example"),
                             .batch_mode = batch_id != TRANSACTIONAL,
                             .recipient_count = 60,
                             .lane =
                                 batch_id == TRANSACTIONAL ? LANE_TRANSACTIONAL : LANE_NEWSLETTER};

    (void)t;
    if (batch_id > LAST)
        return false;
    buf_reset(&packed);
    message_head_pack(&packed, &h);
    *out = buf_slice(&packed);
    return true;
}

static struct buf packed_content;

bool batch_content(struct store_txn *t, uint64_t batch_id, struct slice *out)
{
    struct message_content c = {.from = batch_id == OTHER_FROM ? SLICE("o@a.example")
                                                               : SLICE("A <a@a.example>"),
                                .subject = SLICE("S"),
                                .text = SLICE("Hi %recipient.n%"),
                                .batch_mode = batch_id != TRANSACTIONAL};

    (void)t;
    buf_reset(&packed_content);
    message_content_pack(&packed_content, &c);
    *out = buf_slice(&packed_content);
    return true;
}

bool batch_books(struct store_txn *t, uint64_t batch_id, struct books *books)
{
    (void)t, (void)batch_id;
    *books = seam.books;
    return true;
}

bool batch_recipients(struct store_txn *t, uint64_t batch_id, uint32_t slice, struct slice *out)
{
    size_t count = slice == 0 ? 50 : 10;
    struct recipient list[50] = {0};
    struct name_value vars[50];
    char text[50][32];

    (void)t;
    if (slice > 1)
        return false;
    for (size_t i = 0; i < count; i++) {
        snprintf(text[i], sizeof text[i], "%s%zu@x.example", i == 7 ? "\xc3\xb6" : "r", i);
        vars[i] = (struct name_value){SLICE("n"), slice_str(text[i])};
        list[i] =
            (struct recipient){.address = slice_str(text[i]), .vars = &vars[i], .var_count = 1};
        if (seam.with_copies && (slice == 1 || i >= 48))
            list[i].kind = RECIPIENT_CC;
    }
    if (batch_id == COPIED && slice == 1)
        list[9].kind = RECIPIENT_CC;
    buf_reset(&packed);
    recipients_pack(&packed, list, count);
    *out = buf_slice(&packed);
    return true;
}

enum suppression suppression_of(struct store_txn *t, struct slice domain, struct slice address,
                                const struct slice *tags, size_t tag_count)
{
    (void)t, (void)domain, (void)address, (void)tags, (void)tag_count;
    return SUPPRESS_NONE;
}

struct desk {
    struct config config;
    struct config_domain domains[2];
    struct child me;
    struct child_slot slot;
    struct event_base *base;
    struct outbox *outbox;
    char started_path[64];
    struct started *started;
    _Atomic uint32_t writer_sleeps;
    /* what the writer was told */
    unsigned outcomes[OUTCOME_HELD + 1];
    uint64_t seen[OUTCOME_HELD + 1], last_retry_ms, last_code;
    unsigned finished;
    char last_text[512];
};

static void desk_open(struct desk *d, unsigned connections)
{
    struct err err = {0};
    bool believable;

    *d = (struct desk){0};
    for (size_t i = 0; i < CALLS_MAX; i++)
        buf_reset(&seam.bodies[i]);
    seam.call_count = seam.answered = 0;
    seam.store_is_there = true;
    seam.with_copies = false;
    seam.books = (struct books){0};
    seam.started = NULL;
    static char empty[1];
    d->domains[0] = (struct config_domain){.name = mem_strdup("a.example"),
                                           .newsletter_configuration_set = empty,
                                           .system_configuration_set = empty,
                                           .untracked_configuration_set = empty};
    d->domains[1] = (struct config_domain){.name = mem_strdup("b.example"),
                                           .newsletter_configuration_set = empty,
                                           .system_configuration_set = empty,
                                           .untracked_configuration_set = empty};
    d->config.domains = d->domains;
    d->config.domain_count = 2;
    d->config.state_dir = empty;
    d->config.sender.connections = connections;
    d->config.sender.strategy = STRATEGY_SIMPLE;
    d->config.sender.hold_ms = 60000;
    d->slot.up = ring_create(65536, &err);
    assert_non_null(d->slot.up);
    snprintf(d->started_path, sizeof d->started_path, "/tmp/test_outbox.%ld", (long)getpid());
    d->started = started_open(d->started_path, &believable, &err);
    assert_non_null(d->started);
    d->me = (struct child){.role = ROLE_SENDER,
                           .gauge = 1,
                           .generation = 7,
                           .config = &d->config,
                           .gauges = gauges_create(NULL, &err),
                           .started = d->started,
                           .slot = &d->slot};
    assert_int_equal(bell_create(&d->me.writer_bell, &d->writer_sleeps, &err), 0);
    atomic_store(&d->me.gauges->bucket.per_s_milli, 100000000);
    d->base = event_base_new();
    d->outbox = outbox_create(&d->me, d->base, NULL);
}

static void desk_close(struct desk *d)
{
    outbox_destroy(d->outbox);
    event_base_free(d->base);
    bell_destroy(&d->me.writer_bell);
    gauges_destroy(d->me.gauges);
    started_close(d->started);
    unlink(d->started_path);
    ring_destroy(d->slot.up);
    free(d->domains[0].name);
    free(d->domains[1].name);
    for (size_t i = 0; i < CALLS_MAX; i++)
        buf_fini(&seam.bodies[i]);
    buf_fini(&packed);
    buf_fini(&packed_content);
}

static void grant_until(struct desk *d, uint64_t id, uint64_t batch_id, uint32_t slice,
                        uint64_t mask, uint64_t until_mono_ms)
{
    struct record_lease r = {.generation = 7,
                             .lease_id = id,
                             .cell = (uint32_t)id,
                             .batch_id = batch_id,
                             .slice = slice,
                             .mask = mask,
                             .lane =
                                 batch_id == TRANSACTIONAL ? LANE_TRANSACTIONAL : LANE_NEWSLETTER,
                             .until_mono_ms = until_mono_ms};
    struct buf b = {0};

    record_lease_encode(&b, &r);
    outbox_adopt(d->outbox, buf_slice(&b));
    buf_fini(&b);
}

static void grant(struct desk *d, uint64_t id, uint64_t batch_id, uint32_t slice, uint64_t mask)
{
    grant_until(d, id, batch_id, slice, mask, 0);
}

/* What the writer would read. */
static void collect(struct desk *d)
{
    struct ring_view view;

    while (ring_peek(d->slot.up, &view) == RING_OK) {
        struct record_outcomes r;
        assert_true(record_outcomes_decode(view.rec, &r));
        struct unpack u = unpack_over(r.results);
        for (uint32_t n = unpack_array(&u); n > 0; n--) {
            assert_int_equal(unpack_array(&u), 5);
            uint64_t bit = unpack_u64(&u), outcome = unpack_u64(&u);
            assert_true(outcome <= OUTCOME_HELD);
            d->last_code = unpack_u64(&u);
            struct slice text = unpack_str(&u);
            snprintf(d->last_text, sizeof d->last_text, "%.*s", SLICE_ARGS(text));
            uint64_t retry_ms = unpack_u64(&u);
            if (outcome != OUTCOME_SENT)
                d->last_retry_ms = retry_ms;
            /* Nobody is settled twice within these tests' single leases. */
            d->outcomes[outcome]++;
            d->seen[outcome] |= UINT64_C(1) << bit;
        }
        assert_true(unpack_done(&u));
        d->finished += r.finished;
        ring_release(d->slot.up, &view);
    }
}

/* Answers the oldest unanswered call. body: of a refusal, the words. */
static void answer(int status, enum aws_fate fate, const char *body)
{
    struct aws_response a = {.fate = fate,
                             .status = status,
                             .body = slice_str(body),
                             .error_code = status == 200 ? slice_none() : SLICE("Code"),
                             .error_text = status == 200     ? slice_none()
                                           : body[0] != '\0' ? slice_str(body)
                                                             : SLICE("words")};

    assert_true(seam.answered < seam.call_count);
    size_t i = seam.answered++;
    seam.calls[i].done(seam.calls[i].arg, &a);
}

static void answer_all_ok(void)
{
    while (seam.answered < seam.call_count)
        answer(200, AWS_ANSWERED, "{\"MessageId\":\"ses-1\"}");
}

/* Lets timers run until so many calls were made, at most two seconds. */
static void run_until_calls(struct desk *d, size_t calls)
{
    uint64_t end = clock_mono_ms() + 2000;

    while (seam.call_count < calls && clock_mono_ms() < end) {
        const struct timeval pause = {0, 10000};
        event_base_loopexit(d->base, &pause);
        event_base_dispatch(d->base);
    }
    assert_int_equal(seam.call_count, calls);
}

static void every_recipient_of_a_lease_is_sent_once_and_reported(void **state)
{
    struct desk d;
    desk_open(&d, 8);
    uint64_t mask = UINT64_C(0x3ff) & ~(UINT64_C(1) << 7), marked;

    (void)state;
    seam.started = d.started;
    grant(&d, 5, NEWS, 1, mask);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 7); /* one of eight places is kept for other mail */
    assert_true(started_read(d.started, 0, 5, 5, &marked));
    assert_int_equal(marked, 0x7f);
    answer_all_ok();
    collect(&d);
    assert_int_equal(seam.call_count, 9);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 9);
    assert_int_equal(d.seen[OUTCOME_SENT], mask);
    assert_int_equal(d.finished, 1);
    assert_string_equal(d.last_text, "ses-1");
    assert_true(outbox_is_empty(d.outbox));
    desk_close(&d);
}

static void a_recipient_that_cannot_be_expressed_fails_alone(void **state)
{
    struct desk d;
    desk_open(&d, 8);

    (void)state;
    grant(&d, 5, NEWS, 0, 0xff);
    outbox_pump(d.outbox);
    answer_all_ok();
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 7);
    assert_int_equal(d.seen[OUTCOME_FAILED], 1 << 7);
    assert_int_equal(d.finished, 1);
    desk_close(&d);
}

static void each_answer_becomes_its_outcome(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 5, NEWS, 0, 7);
    outbox_pump(d.outbox);
    answer(400, AWS_ANSWERED, "");
    answer(0, AWS_UNKNOWN, "");
    answer(200, AWS_ANSWERED, "not JSON");
    collect(&d);
    assert_int_equal(d.seen[OUTCOME_FAILED], 1);
    assert_int_equal(d.seen[OUTCOME_DOUBT], 2);
    assert_int_equal(d.seen[OUTCOME_SENT], 4);
    assert_int_equal(d.finished, 1);
    desk_close(&d);
}

static void throttling_delays_and_never_fails_anyone(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 5, NEWS, 0, 1);
    outbox_pump(d.outbox);
    answer(429, AWS_ANSWERED, "");
    run_until_calls(&d, 2);
    answer(429, AWS_ANSWERED, "");
    run_until_calls(&d, 3);
    assert_true(slice_eq(buf_slice(&seam.bodies[0]), buf_slice(&seam.bodies[2])));
    answer_all_ok();
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 1);
    assert_int_equal(d.outcomes[OUTCOME_FAILED] + d.outcomes[OUTCOME_RETRY], 0);
    assert_int_equal(atomic_load(&d.me.gauges->throttled_count), 2);
    desk_close(&d);
}

/* Neither what was not begun nor what was refused for now goes when the time is over. */
static void nothing_of_a_lease_is_begun_beyond_its_end(void **state)
{
    struct desk d;
    uint64_t until = clock_mono_ms() + 1500;
    desk_open(&d, 1);

    (void)state;
    grant_until(&d, 4, NEWS, 1, 6, clock_mono_ms());
    outbox_pump(d.outbox);
    collect(&d);
    assert_int_equal(seam.call_count, 0);
    assert_int_equal(d.seen[OUTCOME_RETRY], 6);
    grant_until(&d, 5, NEWS, 0, 3, until);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 1);
    while (clock_mono_ms() < until)
        (void)usleep(10000);
    answer(429, AWS_ANSWERED, "");
    outbox_pump(d.outbox);
    collect(&d);
    assert_int_equal(seam.call_count, 1);
    assert_int_equal(d.seen[OUTCOME_RETRY], 7);
    assert_int_equal(d.finished, 2);
    desk_close(&d);
}

/* The first try of each of a batch's mails breaks off; others_go: meanwhile SES takes mail of other
 * senders. */
static void cut_uploads(struct desk *d, bool others_go)
{
    enum { CONNECTIONS = 16 };

    desk_open(d, CONNECTIONS);
    grant(d, 5, NEWS, 0, 0x17f); /* CUTS_STRIKES_MAX of them, without the one that fails anyway */
    outbox_pump(d->outbox);
    assert_int_equal(seam.call_count, CUTS_STRIKES_MAX);
    for (size_t i = 0; i < CUTS_STRIKES_MAX; i++) {
        if (others_go)
            atomic_fetch_add(&d->me.gauges->sent_count, 1);
        answer(0, AWS_CUT_SHORT, "");
    }
    outbox_leave(d->outbox);
    answer_all_ok(); /* one that was tried again already */
    outbox_pump(d->outbox);
    collect(d);
    assert_int_equal(d->finished, 1);
}

static void an_upload_that_is_always_cut_fails_only_while_ses_answers_others(void **state)
{
    struct desk d;

    (void)state;
    cut_uploads(&d, false);
    assert_int_equal(d.outcomes[OUTCOME_FAILED], 0);
    desk_close(&d);
    cut_uploads(&d, true);
    assert_int_equal(d.outcomes[OUTCOME_FAILED], 1);
    assert_int_equal(d.seen[OUTCOME_FAILED], 0x100);
    desk_close(&d);
}

static const uint64_t CC = UINT64_C(3) << 48; /* those of slice 0 */

static void copies_are_booked_when_ses_has_taken_a_mail_that_carries_them(void **state)
{
    struct desk d;

    (void)state;
    desk_open(&d, 4);
    seam.with_copies = true;
    grant(&d, 5, NEWS, 0, CC | 3);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 2);
    answer(400, AWS_ANSWERED, "");
    outbox_leave(d.outbox); /* hands in what there is */
    collect(&d);
    assert_int_equal(d.seen[OUTCOME_SENT], 0);
    answer(200, AWS_ANSWERED, "{\"MessageId\":\"ses-1\"}");
    collect(&d);
    assert_int_equal(d.seen[OUTCOME_SENT], CC | 2);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 3);
    assert_int_equal(d.seen[OUTCOME_FAILED], 1);
    assert_int_equal(d.finished, 1);
    desk_close(&d);
}

static void copies_whose_readers_failed_are_looked_at_again(void **state)
{
    struct desk d;

    (void)state;
    desk_open(&d, 4);
    seam.with_copies = true;
    grant(&d, 5, NEWS, 0, CC | 1);
    outbox_pump(d.outbox);
    answer(400, AWS_ANSWERED, "");
    collect(&d);
    assert_int_equal(d.seen[OUTCOME_FAILED], 1);
    assert_int_equal(d.seen[OUTCOME_RETRY], CC);
    assert_int_equal(d.finished, 1);
    desk_close(&d);
}

static void copies_alone_go_by_what_became_of_the_readers(void **state)
{
    static const struct {
        struct books books;
        enum outcome outcome;
    } cases[] = {
        {{.state = {[STATE_LEASED] = 30, [STATE_SENT] = 1}}, OUTCOME_SENT},
        {{.state = {[STATE_LEASED] = 10, [STATE_DOUBT] = 1}}, OUTCOME_FAILED}, /* 11 copies */
        {{.state = {[STATE_LEASED] = 11, [STATE_PENDING] = 1}}, OUTCOME_RETRY},
        {{.state = {[STATE_LEASED] = 11, [STATE_DOUBT] = 1}}, OUTCOME_RETRY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct desk d;
        desk_open(&d, 4);
        seam.with_copies = true;
        seam.books = cases[i].books;
        grant(&d, 5, NEWS, 1, 0x37f);
        outbox_pump(d.outbox);
        collect(&d);
        assert_int_equal(seam.call_count, 0);
        assert_int_equal(d.seen[cases[i].outcome], 0x37f);
        assert_int_equal(d.outcomes[cases[i].outcome], 9);
        assert_int_equal(d.finished, 1);
        desk_close(&d);
    }
}

static void transactional_mail_overtakes_newsletters(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 1, NEWS, 0, 7);
    grant(&d, 2, TRANSACTIONAL, 1, 3);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 1);
    /* One mail to both, and before any of the newsletter. */
    assert_true(slice_find(buf_slice(&seam.bodies[0]),
                           SLICE("\"r0@x.example\",\"r1@x.example\"")) != SIZE_MAX);
    answer_all_ok();
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 5);
    assert_int_equal(seam.call_count, 4);
    desk_close(&d);
}

static void a_refused_sender_costs_one_call_and_no_others_mail(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 1, NEWS, 0, 7);
    grant(&d, 2, NEWS_B, 1, 1);
    grant(&d, 3, OTHER_FROM, 1, 1);
    grant(&d, 4, NEWS, 1, 3); /* of the same: not even tried */
    outbox_pump(d.outbox);
    answer(403, AWS_ANSWERED, "");
    answer_all_ok();
    collect(&d);
    assert_int_equal(seam.call_count, 3);
    assert_int_equal(d.outcomes[OUTCOME_HELD], 5);
    assert_int_equal(d.last_retry_ms, 0);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 2);
    assert_int_equal(d.finished, 4);
    /* What is granted later is asked about anew: when, is the writer's to say. */
    grant(&d, 5, NEWS, 0, 8);
    outbox_pump(d.outbox);
    answer_all_ok();
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 3);
    desk_close(&d);
}

static void what_is_held_is_told_with_the_reason(void **state)
{
    static const struct {
        int status;
        bool untracked;
        enum hold_reason reason;
        unsigned held; /* of three leases: a lane's two Froms, and another domain */
    } cases[] = {
        {403, false, HOLD_SENDER, 1},
        {454, false, HOLD_QUOTA, 3},
        {404, false, HOLD_CONFIGURATION_SET, 2},
        {404, true, HOLD_SENDER, 1}, /* a set of the batch's own */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static char untracked[] = "untracked";
        struct desk d;
        desk_open(&d, 1);
        if (cases[i].untracked)
            d.domains[0].untracked_configuration_set = untracked;
        grant(&d, 1, NEWS, 0, 1);
        grant(&d, 2, OTHER_FROM, 0, 1);
        grant(&d, 3, NEWS_B, 0, 1);
        outbox_pump(d.outbox);
        answer(cases[i].status, AWS_ANSWERED, "");
        answer_all_ok();
        collect(&d);
        assert_int_equal(d.outcomes[OUTCOME_HELD], cases[i].held);
        assert_int_equal(d.outcomes[OUTCOME_SENT], 3 - cases[i].held);
        desk_close(&d);
        desk_open(&d, 1);
        if (cases[i].untracked)
            d.domains[0].untracked_configuration_set = untracked;
        grant(&d, 1, NEWS, 0, 1);
        outbox_pump(d.outbox);
        answer(cases[i].status, AWS_ANSWERED, "");
        collect(&d);
        assert_int_equal(d.last_code, cases[i].reason);
        assert_string_equal(d.last_text, "Code: words");
        desk_close(&d);
    }
}

/* Of a mail to several, whoever is named keeps all of them waiting, and nobody else. */
static void a_reader_who_is_not_verified_is_no_fault_of_the_sender(void **state)
{
    static const struct {
        const char *words;
        bool held;
    } cases[] = {
        {"Email address is not verified. The following identities failed the check in region "
         "US-EAST-1: r2@x.example",
         false},
        {"Email address is not verified. The following identities failed the check in region "
         "US-EAST-1: R <r0@x.example>, r2@x.example.",
         false},
        {"Email address is not verified. The following identities failed the check in region "
         "US-EAST-1: a@a.example, r2@x.example",
         true},
        {"Email address is not verified. The following identities failed the check in region "
         "US-EAST-1: a.example, r2@x.example",
         true},
        {"Email address is not verified. The following identities failed the check in region "
         "US-EAST-1: xr2@x.example",
         true},
        {"User is not authorized to send to r2@x.example", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct desk d;
        desk_open(&d, 1);
        grant(&d, 1, TRANSACTIONAL, 0, 7);
        grant(&d, 2, TRANSACTIONAL, 1, 1);
        outbox_pump(d.outbox);
        answer(403, AWS_ANSWERED, cases[i].words);
        answer_all_ok();
        collect(&d);
        assert_int_equal(d.outcomes[OUTCOME_HELD], cases[i].held ? 4 : 0);
        assert_int_equal(d.outcomes[OUTCOME_RETRY], cases[i].held ? 0 : 3);
        assert_int_equal(d.outcomes[OUTCOME_SENT], cases[i].held ? 0 : 1);
        if (!cases[i].held)
            assert_int_equal(d.last_retry_ms, d.config.sender.hold_ms * 10);
        desk_close(&d);
    }
}

static void a_copy_to_one_who_is_not_verified_is_no_fault_of_the_sender(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 1, COPIED, 1, 1);
    outbox_pump(d.outbox);
    answer(403, AWS_ANSWERED, "Email address is not verified: r9@x.example");
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_RETRY], 1);
    assert_int_equal(d.last_retry_ms, d.config.sender.hold_ms * 10);
    desk_close(&d);
}

static void those_of_a_bulk_call_who_are_not_verified_wait_alone(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    d.config.sender.strategy = STRATEGY_AUTO;
    atomic_store(&d.me.gauges->entries_max, 50);
    grant(&d, 1, NEWS, 0, 0x1f);
    outbox_pump(d.outbox);
    answer(403, AWS_ANSWERED, "Email address is not verified: r1@x.example, r3@x.example");
    run_until_calls(&d, 2);
    assert_true(slice_find(buf_slice(&seam.bodies[1]), SLICE("r0@x.example")) != SIZE_MAX);
    assert_true(slice_find(buf_slice(&seam.bodies[1]), SLICE("r1@x.example")) == SIZE_MAX);
    answer(200, AWS_ANSWERED,
           "{\"BulkEmailEntryResults\":[{\"Status\":\"SUCCESS\",\"MessageId\":\"1\"},"
           "{\"Status\":\"MESSAGE_REJECTED\",\"Error\":\"Email address is not verified: "
           "r2@x.example\"},{\"Status\":\"SUCCESS\",\"MessageId\":\"3\"}]}");
    collect(&d);
    assert_int_equal(d.seen[OUTCOME_RETRY], 0xe);
    assert_int_equal(d.seen[OUTCOME_SENT], 0x11);
    assert_int_equal(d.outcomes[OUTCOME_HELD], 0);
    assert_int_equal(d.finished, 1);
    desk_close(&d);
}

static void an_exhausted_quota_gives_everything_back(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 1, NEWS, 0, 7);
    grant(&d, 2, NEWS_B, 1, 1);
    outbox_pump(d.outbox);
    answer(454, AWS_ANSWERED, "");
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_HELD], 4);
    assert_int_equal(d.last_code, HOLD_QUOTA);
    assert_int_equal(d.last_retry_ms, 0);
    assert_true(outbox_is_empty(d.outbox));
    desk_close(&d);
}

static void leaving_finishes_what_flies_and_gives_back_the_rest(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    grant(&d, 1, NEWS, 0, 7);
    outbox_pump(d.outbox);
    outbox_leave(d.outbox);
    assert_false(outbox_has_room(d.outbox));
    assert_false(outbox_is_empty(d.outbox));
    answer_all_ok();
    collect(&d);
    assert_int_equal(seam.call_count, 1);
    assert_int_equal(d.seen[OUTCOME_SENT], 1);
    assert_int_equal(d.seen[OUTCOME_RETRY], 6);
    assert_int_equal(d.finished, 1);
    assert_true(outbox_is_empty(d.outbox));
    desk_close(&d);
}

static void a_full_ring_to_the_writer_loses_no_result(void **state)
{
    struct desk d;
    desk_open(&d, 1);
    uint8_t filler[1024] = {0};

    (void)state;
    grant(&d, 1, NEWS, 0, 1);
    outbox_pump(d.outbox);
    while (ring_push(d.slot.up, slice_of(filler, sizeof filler), NULL) == RING_OK)
        ;
    while (ring_push(d.slot.up, slice_of(filler, 1), NULL) == RING_OK)
        ;
    answer_all_ok();
    assert_false(outbox_has_room(d.outbox));
    assert_false(outbox_is_empty(d.outbox));
    struct ring_view view;
    while (ring_peek(d.slot.up, &view) == RING_OK)
        ring_release(d.slot.up, &view);
    outbox_pump(d.outbox);
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 1);
    assert_true(outbox_has_room(d.outbox));
    desk_close(&d);
}

static void a_lease_of_another_life_is_dropped(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    d.me.generation = 8;
    grant(&d, 1, NEWS, 0, 1);
    outbox_pump(d.outbox);
    assert_true(outbox_is_empty(d.outbox));
    assert_int_equal(seam.call_count, 0);
    desk_close(&d);
}

static void without_a_store_it_waits_and_without_a_batch_it_fails(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    seam.store_is_there = false;
    grant(&d, 1, NEWS, 0, 1);
    grant(&d, 2, 99, 0, 1);
    outbox_pump(d.outbox);
    collect(&d);
    assert_int_equal(d.finished, 0);
    seam.store_is_there = true;
    outbox_pump(d.outbox);
    answer_all_ok();
    collect(&d);
    assert_int_equal(d.outcomes[OUTCOME_SENT], 1);
    assert_int_equal(d.outcomes[OUTCOME_FAILED], 1);
    assert_int_equal(d.finished, 2);
    desk_close(&d);
}

static void without_a_known_rate_nothing_leaves(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    atomic_store(&d.me.gauges->bucket.per_s_milli, 0);
    grant(&d, 1, NEWS, 0, 1);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 0);
    atomic_store(&d.me.gauges->bucket.per_s_milli, 1000);
    run_until_calls(&d, 1);
    desk_close(&d);
}

static void without_credentials_nothing_is_begun(void **state)
{
    struct desk d;
    desk_open(&d, 1);

    (void)state;
    seam.no_credentials = true;
    grant(&d, 1, NEWS, 0, 3);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 0);
    outbox_leave(d.outbox); /* all of it goes back, as what was never begun */
    collect(&d);
    assert_int_equal(d.seen[OUTCOME_RETRY], 3);
    assert_true(outbox_is_empty(d.outbox));
    desk_close(&d);
    desk_open(&d, 1);
    seam.no_credentials = true;
    grant(&d, 2, NEWS, 0, 1);
    outbox_pump(d.outbox);
    assert_int_equal(seam.call_count, 0);
    seam.no_credentials = false;
    outbox_pump(d.outbox); /* the role's tick */
    run_until_calls(&d, 1);
    desk_close(&d);
}

static void the_rate_is_the_accounts_or_what_the_configuration_says(void **state)
{
    struct config c = {0};

    (void)state;
    c.sender.rate_kind = RATE_AUTO;
    assert_int_equal(rate_allowed(&c, 14000, false), 13790); /* with a margin */
    assert_int_equal(rate_allowed(&c, 0, false), 0);
    assert_int_equal(rate_allowed(&c, 0, true), 1000);
    c.sender.rate_kind = RATE_FIXED;
    c.sender.rate_per_s = 20;
    assert_int_equal(rate_allowed(&c, 14000, false), 13790); /* nor beyond it */
    assert_int_equal(rate_allowed(&c, 20000, false), 19700);
    assert_int_equal(rate_allowed(&c, 20100, false), 19799); /* within the margin */
    assert_int_equal(rate_allowed(&c, 50000, false), 20000);
    assert_int_equal(rate_allowed(&c, 0, false), 20000);
    c.sender.rate_kind = RATE_SHARE;
    c.sender.rate_percent = 50;
    assert_int_equal(rate_allowed(&c, 14000, false), 7000);
    c.sender.rate_percent = 100;
    assert_int_equal(rate_allowed(&c, 14000, false), 13790);
}

static void the_share_falls_by_what_was_refused_and_recovers_slowly(void **state)
{
    (void)state;
    assert_int_equal(rate_share_next(1000, 0, 500), 1000);
    assert_int_equal(rate_share_next(1000, 1, 19), 975);
    assert_int_equal(rate_share_next(1000, 14, 0), 500);
    assert_int_equal(rate_share_next(60, 14, 0), RATE_SHARE_LEAST);
    assert_int_equal(rate_share_next(800, 0, 0), 800 + RATE_RECOVERY);
}

static void bulk_calls_leave_room_in_every_second_for_a_mail_that_overtakes(void **state)
{
    static const uint32_t rates[] = {1, 14, 50, 80, 99, 100, 200, 500, 1000, 2000, 5000};
    static const unsigned sizes[] = {1, 1, 1, 1, 2, 1, 2, 5, 10, 25, 50};

    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        unsigned size = rate_entries_max(rates[i] * UINT64_C(1000));
        if (size != sizes[i])
            print_error("%u a second: %u\n", rates[i], size);
        assert_int_equal(size, sizes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recipient_of_a_lease_is_sent_once_and_reported),
        cmocka_unit_test(a_recipient_that_cannot_be_expressed_fails_alone),
        cmocka_unit_test(each_answer_becomes_its_outcome),
        cmocka_unit_test(throttling_delays_and_never_fails_anyone),
        cmocka_unit_test(nothing_of_a_lease_is_begun_beyond_its_end),
        cmocka_unit_test(an_upload_that_is_always_cut_fails_only_while_ses_answers_others),
        cmocka_unit_test(copies_are_booked_when_ses_has_taken_a_mail_that_carries_them),
        cmocka_unit_test(copies_whose_readers_failed_are_looked_at_again),
        cmocka_unit_test(copies_alone_go_by_what_became_of_the_readers),
        cmocka_unit_test(transactional_mail_overtakes_newsletters),
        cmocka_unit_test(a_refused_sender_costs_one_call_and_no_others_mail),
        cmocka_unit_test(what_is_held_is_told_with_the_reason),
        cmocka_unit_test(a_reader_who_is_not_verified_is_no_fault_of_the_sender),
        cmocka_unit_test(a_copy_to_one_who_is_not_verified_is_no_fault_of_the_sender),
        cmocka_unit_test(those_of_a_bulk_call_who_are_not_verified_wait_alone),
        cmocka_unit_test(an_exhausted_quota_gives_everything_back),
        cmocka_unit_test(leaving_finishes_what_flies_and_gives_back_the_rest),
        cmocka_unit_test(a_full_ring_to_the_writer_loses_no_result),
        cmocka_unit_test(a_lease_of_another_life_is_dropped),
        cmocka_unit_test(without_a_store_it_waits_and_without_a_batch_it_fails),
        cmocka_unit_test(without_a_known_rate_nothing_leaves),
        cmocka_unit_test(without_credentials_nothing_is_begun),
        cmocka_unit_test(the_share_falls_by_what_was_refused_and_recovers_slowly),
        cmocka_unit_test(bulk_calls_leave_room_in_every_second_for_a_mail_that_overtakes),
        cmocka_unit_test(the_rate_is_the_accounts_or_what_the_configuration_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
