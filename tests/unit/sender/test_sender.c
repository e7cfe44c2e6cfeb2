#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "aws/http.h"
#include "base/pack.h"
#include "sender/sender.h"
#include "shm/record.h"
#include "store/batch_write.h"

/*
 * The whole role in this process: real rings, real store, real loop. Only SES is a seam: each call
 * is answered from the loop a moment later. The test is the writer.
 */
enum { READERS = 120, BATCH = 77, GENERATION = 3 };

static struct {
    struct event_base *base;
    struct aws_request calls[2 * READERS];
    unsigned call_count, send_count;
    unsigned term_after; /* SIGTERM after so many sends */
} seam;

struct aws_client *aws_client_create(struct event_base *base, const struct config *config,
                                     struct vault *vault, unsigned connections, struct err *err)
{
    (void)config, (void)vault, (void)connections, (void)err;
    seam.base = base;
    return (struct aws_client *)(void *)&seam;
}

bool aws_can_sign(struct aws_client *c)
{
    (void)c;
    return true;
}

void aws_client_destroy(struct aws_client *c)
{
    (void)c;
}

enum aws_reaction aws_send_reaction(const struct aws_response *answer)
{
    return answer->status == 200 ? AWS_OK : AWS_PERMANENT;
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
    struct aws_request request = *(struct aws_request *)arg;
    struct aws_response a = {.fate = AWS_ANSWERED, .status = 200};

    (void)fd, (void)what;
    if (request.method[0] == 'G') {
        a.body = SLICE("{\"SendQuota\":{\"Max24HourSend\":-1,\"MaxSendRate\":5000.0}}");
    } else {
        a.body = SLICE("{\"MessageId\":\"m\"}");
        seam.send_count++;
    }
    request.done(request.arg, &a);
    if (request.method[0] == 'P' && seam.send_count == seam.term_after)
        raise(SIGTERM);
}

void aws_call(struct aws_client *c, const struct aws_request *request)
{
    const struct timeval soon = {0, 1000};

    (void)c;
    assert_true(seam.call_count < 2 * READERS);
    seam.calls[seam.call_count] = *request;
    event_base_once(seam.base, -1, EV_TIMEOUT, on_time, &seam.calls[seam.call_count++], &soon);
}

struct post {
    char dir[64], started_path[96];
    struct config config;
    struct child me;
    struct child_slot slot;
    int control[2];
    _Atomic uint32_t writer_sleeps, sender_sleeps;
    uint64_t sent, given_back;
    unsigned finished;
};

static void fill_store(const char *dir)
{
    struct message_head h = {.domain = SLICE("a.example"),
                             .message_id = SLICE("id@a.example"),
                             .batch_mode = true,
                             .recipient_count = READERS,
                             .lane = LANE_NEWSLETTER};
    struct message_content c = {.from = SLICE("a@a.example"),
                                .subject = SLICE("S"),
                                .html = SLICE("Hi %recipient.n%"),
                                .batch_mode = true};
    struct buf head = {0}, content = {0}, slices = {0}, one = {0};
    struct recipient list[READERS] = {0};
    struct name_value vars[READERS];
    char text[READERS][32];
    uint8_t duplicate[READERS] = {0};
    struct err err = {0};

    for (size_t i = 0; i < READERS; i++) {
        snprintf(text[i], sizeof text[i], "r%zu@x.example", i);
        vars[i] = (struct name_value){SLICE("n"), slice_str(text[i])};
        list[i] =
            (struct recipient){.address = slice_str(text[i]), .vars = &vars[i], .var_count = 1};
    }
    pack_array(&slices, 3);
    for (size_t i = 0; i < READERS; i += MESSAGE_SLICE) {
        buf_reset(&one);
        recipients_pack(&one, list + i, READERS - i < MESSAGE_SLICE ? READERS - i : MESSAGE_SLICE);
        pack_bin(&slices, buf_slice(&one));
    }
    message_head_pack(&head, &h);
    message_content_pack(&content, &c);
    struct store *s = store_open(dir, STORE_WRITE, &err);
    assert_non_null(s);
    struct store_txn *t = store_begin_write(s, &err);
    struct new_batch b = {.id = BATCH,
                          .head = buf_slice(&head),
                          .content = buf_slice(&content),
                          .slices = buf_slice(&slices),
                          .domain = h.domain,
                          .message_id = h.message_id,
                          .recipient_count = READERS,
                          .duplicate = duplicate,
                          .lane = LANE_NEWSLETTER};
    assert_int_equal(batch_insert(t, &b, &err), 1);
    assert_int_equal(store_commit(t, &err), 0);
    store_close(s);
    buf_fini(&head), buf_fini(&content), buf_fini(&slices), buf_fini(&one);
}

static void post_open(struct post *p)
{
    static char empty[1];
    struct err err = {0};
    bool believable;

    memset(&seam, 0, sizeof seam);
    *p = (struct post){0};
    snprintf(p->dir, sizeof p->dir, "/tmp/test_sender.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->started_path, sizeof p->started_path, "%s/started", p->dir);
    fill_store(p->dir);
    p->config.state_dir = p->dir;
    p->config.user = empty;
    p->config.sender.connections = 16;
    p->config.sender.strategy = STRATEGY_SIMPLE;
    p->config.sender.hold_ms = 60000;
    p->slot = (struct child_slot){.role = ROLE_SENDER, .gauge = 1};
    p->slot.up = ring_create(1 << 16, &err);
    p->slot.down = ring_create(1 << 16, &err);
    assert_int_equal(bell_create(&p->slot.bell, &p->sender_sleeps, &err), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p->control), 0);
    p->me = (struct child){.role = ROLE_SENDER,
                           .gauge = 1,
                           .generation = GENERATION,
                           .name = "sender 0",
                           .config = &p->config,
                           .gauges = gauges_create(NULL, &err),
                           .started = started_open(p->started_path, &believable, &err),
                           .control_fd = p->control[0],
                           .slot = &p->slot};
    assert_int_equal(bell_create(&p->me.writer_bell, &p->writer_sleeps, &err), 0);
    for (uint32_t slice = 0; slice < 3; slice++) {
        struct record_lease l = {.generation = GENERATION,
                                 .lease_id = slice + 1,
                                 .cell = slice,
                                 .batch_id = BATCH,
                                 .slice = slice,
                                 .mask = slice < 2 ? (UINT64_C(1) << 50) - 1 : 0xfffff,
                                 .lane = LANE_NEWSLETTER};
        struct buf b = {0};
        record_lease_encode(&b, &l);
        assert_int_equal(ring_push(p->slot.down, buf_slice(&b), NULL), RING_OK);
        buf_fini(&b);
    }
}

static void post_close(struct post *p)
{
    char command[128];

    ring_destroy(p->slot.up);
    ring_destroy(p->slot.down);
    bell_destroy(&p->slot.bell);
    bell_destroy(&p->me.writer_bell);
    gauges_destroy(p->me.gauges);
    started_close(p->me.started);
    close(p->control[0]);
    if (p->control[1] >= 0)
        close(p->control[1]);
    snprintf(command, sizeof command, "rm -rf %s", p->dir);
    assert_int_equal(system(command), 0);
}

static void collect(struct post *p)
{
    struct ring_view view;

    while (ring_peek(p->slot.up, &view) == RING_OK) {
        struct record_outcomes r;
        assert_true(record_outcomes_decode(view.rec, &r));
        struct unpack u = unpack_over(r.results);
        for (uint32_t n = unpack_array(&u); n > 0; n--) {
            unpack_array(&u);
            unpack_u64(&u);
            uint64_t outcome = unpack_u64(&u);
            p->sent += outcome == OUTCOME_SENT;
            p->given_back += outcome == OUTCOME_RETRY;
            unpack_skip(&u, 3);
        }
        assert_true(unpack_done(&u));
        p->finished += r.finished;
        ring_release(p->slot.up, &view);
    }
}

static void all_is_sent_and_sigterm_ends_it(void **state)
{
    struct post p;
    post_open(&p);

    (void)state;
    seam.term_after = READERS;
    assert_int_equal(sender_main(&p.me), CHILD_EXIT_DONE);
    collect(&p);
    assert_int_equal(p.sent, READERS);
    assert_int_equal(p.finished, 3);
    assert_int_equal(seam.send_count, READERS);
    assert_int_equal(atomic_load(&p.me.gauges->account_rate_milli), 5000000);
    assert_int_equal(atomic_load(&p.me.gauges->sent_count), READERS);
    post_close(&p);
}

static void sigterm_midway_settles_everyone_it_had_taken_up(void **state)
{
    struct post p;
    post_open(&p);

    (void)state;
    seam.term_after = 30;
    assert_int_equal(sender_main(&p.me), CHILD_EXIT_DONE);
    collect(&p);
    assert_in_range(p.sent, 30, 60);
    assert_int_equal(p.sent, seam.send_count);
    assert_int_equal(p.sent + p.given_back, READERS);
    assert_int_equal(p.finished, 3);
    post_close(&p);
}

static void a_dead_master_ends_it_at_once(void **state)
{
    struct post p;
    post_open(&p);

    (void)state;
    close(p.control[1]);
    p.control[1] = -1;
    assert_int_equal(sender_main(&p.me), CHILD_EXIT_DONE);
    post_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_sent_and_sigterm_ends_it),
        cmocka_unit_test(sigterm_midway_settles_everyone_it_had_taken_up),
        cmocka_unit_test(a_dead_master_ends_it_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
