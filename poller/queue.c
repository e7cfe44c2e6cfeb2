/*
 * Until when has the queue been heard? A doubt about a send ends only when the events that could
 * have settled it have been read, so the answer must not be later than the truth, and must not
 * stand still.
 *
 * An empty answer says that nothing was in sight. What had been sent before its request began is
 * then stored, held here, or on its way to us in the answer to another poll: SQS hid it from this
 * one because it gave it to that one, however long it had waited. So the answer counts once every
 * poll that was under way when it came has been answered, and then up to the time its own request
 * began. Polls begun later cannot carry what it means: that was out of sight already.
 *
 * A busy queue is never empty, as opens and clicks of other mail come all day; there the messages
 * tell, by the time they have waited in it. They overtake one another, so what counts is the
 * longest wait within the present period and the one before. A period is as long as SQS may keep a
 * message out of sight.
 *
 * A lost answer hides what it carried for just as long: nothing counts until that is over, and no
 * poll begun before. And what is held here but not stored yet has not been heard.
 */
#include "poller/queue.h"

#include <stdlib.h>

#include "aws/sqs.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 20000,
    ANSWER_WITHIN_MS = 10000, /* beyond the time that SQS is asked to wait */
    DELETE_TIMEOUT_MS = 15000,
    WAITS_MS = 60000,     /* over which the longest wait is taken */
    POLLS_LEAST = 2,      /* of a queue in which nothing happens: one may be stuck */
    BUSY_WITHIN_MS = 200, /* an answer with messages that came so soon did not wait for them */
};

/* One received message; its texts stand behind it in the same allocation. */
struct message {
    struct message *next;
    uint64_t end;                  /* ring position behind its records, once taken */
    uint64_t received_mono_ms;     /* when its invisibility began */
    uint64_t sent_wall_ms;         /* into the queue; 0 = not told */
    struct slice handle, id, body; /* id, body: none once it is taken */
    bool intact;
};

/* In the order of arrival. */
struct messages {
    struct message *first, **last;
};

struct call {
    struct call *next;
    struct queue *q;
    struct buf body;
    uint64_t poll; /* its number, from 1; 0 = a deletion */
    uint64_t began_wall_ms, began_mono_ms;
    struct message *deleting[SQS_BATCH_MAX];
    size_t count;
};

/* An empty answer, until the polls that were under way beside it have been answered. */
struct silence {
    uint64_t until_wall_ms; /* when its request began; 0 = none */
    uint64_t last_poll;     /* the polls up to this number must have been answered */
};

struct queue {
    struct event_base *base;
    struct aws_client *client;
    char *url;
    struct {
        uint64_t began_mono_ms, longest_ms, previous_ms;
    } waits;
    struct slice region; /* of the URL, in it; empty = the client's */
    unsigned receives, visibility_s, wait_s, polls_under_way, deletes_under_way;
    unsigned polls_wanted;     /* POLLS_LEAST..receives: see adapt() */
    uint64_t last_poll;        /* the number of the newest */
    uint64_t empty_wall_ms;    /* an empty answer that counts; 0 = not yet */
    struct silence ripening;   /* the oldest one that does not count yet */
    struct silence newest;     /* of those behind it */
    uint64_t deaf_mono_ms;     /* an answer was lost: nothing counts until then */
    uint64_t lost_wall_ms;     /* what it carried stands in the queue like messages sent then */
    uint64_t period_mono_ms;   /* the current period began */
    uint64_t oldest_wall_ms;   /* sent, of those received in it; UINT64_MAX = none */
    uint64_t previous_wall_ms; /* the same of the period before; 0 = there was none */
    queue_taker *take;
    void *arg;
    struct messages untaken, taken; /* taken: by `end`, too. Those being deleted are their call's */
    size_t held;                    /* of all three kinds */
    struct call *calls;             /* under way */
    bool stopped, failing;
    uint64_t backoff_ms, not_before_mono_ms, delete_by_mono_ms;
};

/* Silence is heard as often as doubts may need it: they end after four visibility timeouts. */
static unsigned wait_s(unsigned visibility_s)
{
    unsigned s = visibility_s / 4;

    return s < 1 ? 1 : s > QUEUE_WAIT_S ? QUEUE_WAIT_S : s;
}

struct queue *queue_open(struct event_base *base, struct aws_client *client, const char *url,
                         unsigned receives, unsigned visibility_s, queue_taker *take, void *arg)
{
    struct queue *q = mem_zero(1, sizeof *q);

    *q = (struct queue){.base = base,
                        .client = client,
                        .receives = receives,
                        .visibility_s = visibility_s,
                        .wait_s = wait_s(visibility_s),
                        .take = take,
                        .arg = arg};
    q->url = mem_strdup(url);
    q->region = sqs_region_of(slice_str(q->url));
    q->polls_wanted = receives < POLLS_LEAST ? receives : POLLS_LEAST;
    q->untaken.last = &q->untaken.first;
    q->taken.last = &q->taken.first;
    q->oldest_wall_ms = UINT64_MAX;
    return q;
}

/* -------- lists -------- */

static void add_last(struct messages *l, struct message *m)
{
    m->next = NULL;
    *l->last = m;
    l->last = &m->next;
}

static void add_first(struct messages *l, struct message *m)
{
    m->next = l->first;
    if (l->first == NULL)
        l->last = &m->next;
    l->first = m;
}

static struct message *take_first(struct messages *l)
{
    struct message *m = l->first;

    l->first = m->next;
    if (l->first == NULL)
        l->last = &l->first;
    return m;
}

static void free_all(struct messages *l)
{
    while (l->first != NULL)
        free(take_first(l));
}

/* -------- calls -------- */

static struct call *call_new(struct queue *q)
{
    struct call *c = mem_zero(1, sizeof *c);

    c->q = q;
    c->next = q->calls;
    q->calls = c;
    return c;
}

static void call_free(struct call *c)
{
    for (struct call **at = &c->q->calls; *at != NULL; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    buf_fini(&c->body);
    free(c);
}

/* After the client: nobody calls back any more. */
void queue_close(struct queue *q)
{
    if (q == NULL)
        return;
    while (q->calls != NULL) {
        for (size_t i = 0; i < q->calls->count; i++)
            free(q->calls->deleting[i]);
        call_free(q->calls);
    }
    free_all(&q->untaken);
    free_all(&q->taken);
    free(q->url);
    free(q);
}

/* -------- trouble -------- */

static void trouble(struct queue *q, const char *what, const struct aws_response *answer)
{
    uint64_t random;

    digest_random(&random, sizeof random);
    q->backoff_ms = q->backoff_ms == 0 ? BACKOFF_FIRST_MS : q->backoff_ms * 2;
    if (q->backoff_ms > BACKOFF_MAX_MS)
        q->backoff_ms = BACKOFF_MAX_MS;
    q->not_before_mono_ms = clock_mono_ms() + q->backoff_ms / 2 + random % (q->backoff_ms / 2 + 1);
    if (!q->failing)
        log_warn("%s: %s fails (%d %.*s: %.*s); trying again, events wait in SQS", q->url, what,
                 answer->status, SLICE_ARGS(answer->error_code), SLICE_ARGS(answer->error_text));
    q->failing = true;
}

static void no_trouble(struct queue *q)
{
    if (q->failing)
        log_info("%s: answers again", q->url);
    q->failing = false;
    q->backoff_ms = 0;
}

/* -------- until when the queue has been heard -------- */

static uint64_t period_ms(const struct queue *q)
{
    return (q->visibility_s + 2) * UINT64_C(1000);
}

static void begin_period(struct queue *q, uint64_t previous_wall_ms)
{
    q->period_mono_ms = clock_mono_ms();
    q->oldest_wall_ms = UINT64_MAX;
    q->previous_wall_ms = previous_wall_ms;
}

/* Messages may be out of sight that nobody has. */
static void note_lost(struct queue *q)
{
    q->deaf_mono_ms = clock_mono_ms() + period_ms(q);
    q->lost_wall_ms = clock_wall_ms() + period_ms(q);
    q->ripening = q->newest = (struct silence){0};
    begin_period(q, 0);
}

static void note_empty(struct queue *q, const struct call *c)
{
    const struct silence s = {.until_wall_ms = c->began_wall_ms, .last_poll = q->last_poll};

    if (c->began_mono_ms < q->deaf_mono_ms)
        return;
    if (q->ripening.until_wall_ms == 0)
        q->ripening = s;
    else if (s.until_wall_ms > q->newest.until_wall_ms)
        q->newest = s; /* the one in its place waited for fewer polls, but would say less */
}

static bool is_answered_up_to(const struct queue *q, uint64_t poll)
{
    for (const struct call *c = q->calls; c != NULL; c = c->next)
        if (c->poll != 0 && c->poll <= poll)
            return false;
    return true;
}

/* A poll has been answered, and what it carried is held. */
static void note_answered(struct queue *q)
{
    while (q->ripening.until_wall_ms != 0 && is_answered_up_to(q, q->ripening.last_poll)) {
        /* Polls are answered in any order: this one may have begun before the last that counted. */
        if (q->ripening.until_wall_ms > q->empty_wall_ms)
            q->empty_wall_ms = q->ripening.until_wall_ms;
        q->ripening = q->newest;
        q->newest = (struct silence){0};
    }
}

static void note_sent(struct queue *q, uint64_t sent_wall_ms)
{
    if (clock_mono_ms() - q->period_mono_ms >= period_ms(q))
        begin_period(q, q->oldest_wall_ms == UINT64_MAX ? 0 : q->oldest_wall_ms);
    if (sent_wall_ms < q->oldest_wall_ms)
        q->oldest_wall_ms = sent_wall_ms;
}

uint64_t queue_heard_wall_ms(struct queue *q, uint64_t tail)
{
    uint64_t heard_ms =
        q->previous_wall_ms < q->oldest_wall_ms ? q->previous_wall_ms : q->oldest_wall_ms;

    if (q->lost_wall_ms > clock_wall_ms() + period_ms(q)) /* the clock was set back */
        q->lost_wall_ms = clock_wall_ms() + period_ms(q);
    if (heard_ms < q->lost_wall_ms)
        heard_ms = 0; /* behind a backlog it has not come up yet */
    if (q->empty_wall_ms > heard_ms)
        heard_ms = q->empty_wall_ms;
    for (const struct message *m = q->untaken.first; m != NULL; m = m->next)
        heard_ms = m->sent_wall_ms < heard_ms ? m->sent_wall_ms : heard_ms;
    for (const struct message *m = q->taken.first; m != NULL; m = m->next)
        if (m->end > tail && m->sent_wall_ms < heard_ms)
            heard_ms = m->sent_wall_ms;
    return heard_ms;
}

/* -------- how long messages wait -------- */

static void turn_waits(struct queue *q)
{
    uint64_t passed_ms = clock_mono_ms() - q->waits.began_mono_ms;

    if (passed_ms < WAITS_MS)
        return;
    q->waits.previous_ms = passed_ms < 2 * WAITS_MS ? q->waits.longest_ms : 0;
    q->waits.longest_ms = 0;
    q->waits.began_mono_ms = clock_mono_ms();
}

static void note_wait(struct queue *q, uint64_t waited_ms)
{
    turn_waits(q);
    if (waited_ms != UINT64_MAX && waited_ms > q->waits.longest_ms)
        q->waits.longest_ms = waited_ms;
}

/* Of those whose records do not stand before tail. */
static void note_oldest(const struct messages *list, uint64_t tail, uint64_t now_ms,
                        uint64_t *oldest_ms)
{
    for (const struct message *m = list->first; m != NULL; m = m->next)
        if ((tail == 0 || m->end > tail) && m->sent_wall_ms != 0 && m->sent_wall_ms < now_ms &&
            now_ms - m->sent_wall_ms > *oldest_ms)
            *oldest_ms = now_ms - m->sent_wall_ms;
}

uint64_t queue_oldest_ms(struct queue *q, uint64_t tail)
{
    uint64_t now_ms = clock_wall_ms();

    turn_waits(q);
    uint64_t oldest_ms =
        q->waits.longest_ms > q->waits.previous_ms ? q->waits.longest_ms : q->waits.previous_ms;
    note_oldest(&q->untaken, 0, now_ms, &oldest_ms);
    note_oldest(&q->taken, tail, now_ms, &oldest_ms);
    return oldest_ms;
}

/* -------- receiving -------- */

static struct slice keep(uint8_t **at, struct slice s)
{
    if (s.len > 0)
        memcpy(*at, s.ptr, s.len);
    struct slice kept = slice_of(*at, s.len);
    *at += s.len;
    return kept;
}

/* A message goes to the role as it lies in the answer; only what the ring has no room for is copied,
 * and waits. */
static void hold(struct queue *q, const struct sqs_message *m)
{
    uint64_t end = 0, now_wall_ms = clock_wall_ms();
    bool taken = q->untaken.first == NULL &&
                 q->take(q->arg, slice_str(q->url), m->body, m->intact, m->message_id, &end) == 1;
    size_t bytes = m->receipt_handle.len + (taken ? 0 : m->message_id.len + m->body.len);
    struct message *held = mem_alloc(sizeof *held + bytes);
    uint8_t *at = (uint8_t *)(held + 1);

    *held = (struct message){.intact = m->intact, .end = end, .received_mono_ms = clock_mono_ms()};
    if (m->waited_ms < now_wall_ms)
        held->sent_wall_ms = now_wall_ms - m->waited_ms;
    held->handle = keep(&at, m->receipt_handle);
    if (!taken) {
        held->id = keep(&at, m->message_id);
        held->body = keep(&at, m->body);
    }
    note_sent(q, held->sent_wall_ms);
    note_wait(q, m->waited_ms);
    add_last(taken ? &q->taken : &q->untaken, held);
    q->held++;
}

/* Few long polls are enough for a queue in which little happens. An answer that came at once says
 * that there is more; then the polls double up to what is configured. Each that had to wait takes
 * one away. */
static void adapt(struct queue *q, size_t count, uint64_t waited_ms)
{
    unsigned least = q->receives < POLLS_LEAST ? q->receives : POLLS_LEAST;

    if (count == 0)
        q->polls_wanted = least;
    else if (waited_ms < BUSY_WITHIN_MS)
        q->polls_wanted = q->polls_wanted * 2 < q->receives ? q->polls_wanted * 2 : q->receives;
    else if (q->polls_wanted > least)
        q->polls_wanted--;
}

static void on_received(void *arg, const struct aws_response *answer)
{
    struct call *c = arg;
    struct queue *q = c->q;
    struct sqs_received r;

    q->polls_under_way--;
    if (answer->fate != AWS_ANSWERED || answer->status != 200 ||
        !sqs_received_parse(answer->body, &r)) {
        trouble(q, "ReceiveMessage", answer);
        note_lost(q);
    } else {
        no_trouble(q);
        adapt(q, r.count, clock_mono_ms() - c->began_mono_ms);
        if (r.count == 0)
            note_empty(q, c);
        for (size_t i = 0; i < r.count; i++)
            hold(q, &r.messages[i]);
        sqs_received_free(&r);
    }
    call_free(c);
    note_answered(q);
    queue_advance(q, 0);
}

static void receive(struct queue *q)
{
    struct call *c = call_new(q);
    struct aws_request request;

    c->poll = ++q->last_poll;
    c->began_wall_ms = clock_wall_ms();
    c->began_mono_ms = clock_mono_ms();
    sqs_receive_body(&c->body, slice_str(q->url), q->wait_s, q->visibility_s);
    sqs_request(&request, "AmazonSQS.ReceiveMessage");
    request.region = q->region;
    request.body = buf_slice(&c->body);
    request.timeout_ms = q->wait_s * UINT64_C(1000) + ANSWER_WITHIN_MS;
    request.done = on_received;
    request.arg = c;
    q->polls_under_way++;
    aws_call(q->client, &request);
}

/* -------- deleting -------- */

static void drop(struct queue *q, struct message *m)
{
    free(m);
    q->held--;
}

static void on_deleted(void *arg, const struct aws_response *answer)
{
    struct call *c = arg;
    struct queue *q = c->q;
    uint32_t failed = UINT32_MAX;

    q->deletes_under_way--;
    if (answer->fate != AWS_ANSWERED || answer->status != 200 ||
        !sqs_deleted_parse(answer->body, &failed)) {
        failed = UINT32_MAX;
        trouble(q, "DeleteMessageBatch", answer);
    } else {
        no_trouble(q);
    }
    for (size_t i = c->count; i-- > 0;) {
        if ((failed >> i & 1) != 0)
            add_first(&q->taken, c->deleting[i]); /* again with the next batch */
        else
            drop(q, c->deleting[i]);
    }
    call_free(c);
    queue_advance(q, 0);
}

/* The first ones of those that were taken. */
static void delete_batch(struct queue *q, size_t count)
{
    struct call *c = call_new(q);
    struct slice handles[SQS_BATCH_MAX];
    struct aws_request request;

    for (size_t i = 0; i < count; i++) {
        c->deleting[c->count++] = take_first(&q->taken);
        handles[i] = c->deleting[i]->handle;
    }
    sqs_delete_body(&c->body, slice_str(q->url), handles, count);
    sqs_request(&request, "AmazonSQS.DeleteMessageBatch");
    request.region = q->region;
    request.body = buf_slice(&c->body);
    request.timeout_ms = DELETE_TIMEOUT_MS;
    request.done = on_deleted;
    request.arg = c;
    q->deletes_under_way++;
    aws_call(q->client, &request);
}

static void delete_committed(struct queue *q, uint64_t tail)
{
    uint64_t now_ms = clock_mono_ms();
    size_t count;

    if (now_ms < q->not_before_mono_ms)
        return;
    do {
        count = 0;
        for (const struct message *m = q->taken.first;
             m != NULL && m->end <= tail && count < SQS_BATCH_MAX; m = m->next)
            count++;
        if (count == 0)
            return;
        if (q->delete_by_mono_ms == 0)
            q->delete_by_mono_ms = now_ms + QUEUE_DELETE_AFTER_MS;
        if (count < SQS_BATCH_MAX && now_ms < q->delete_by_mono_ms && !q->stopped)
            return;
        delete_batch(q, count);
        q->delete_by_mono_ms = 0;
    } while (count == SQS_BATCH_MAX);
}

/* -------- taking -------- */

/* False when the ring has no room: the rest waits its turn. */
static bool take_held(struct queue *q)
{
    for (struct message *m; (m = q->untaken.first) != NULL;) {
        if (q->take(q->arg, slice_str(q->url), m->body, m->intact, m->id, &m->end) != 1)
            return false;
        add_last(&q->taken, take_first(&q->untaken));
        m->id = m->body = slice_none();
    }
    return true;
}

/* What could not be stored within its invisibility comes again by itself; deleting it with the old
 * handle would delete nothing. */
static void forget_expired(struct queue *q)
{
    uint64_t now_ms = clock_mono_ms();

    while (q->untaken.first != NULL &&
           now_ms - q->untaken.first->received_mono_ms > (q->visibility_s - 2) * UINT64_C(1000)) {
        if (q->untaken.first->sent_wall_ms < q->empty_wall_ms)
            q->empty_wall_ms = q->untaken.first->sent_wall_ms;
        drop(q, take_first(&q->untaken));
        note_lost(q);
    }
}

void queue_advance(struct queue *q, uint64_t tail)
{
    bool room = take_held(q);

    if (!room)
        forget_expired(q);
    if (tail != 0)
        delete_committed(q, tail);
    if (q->stopped || !room || clock_mono_ms() < q->not_before_mono_ms)
        return;
    while (q->polls_under_way < q->polls_wanted &&
           q->held + (q->polls_under_way + 1) * SQS_BATCH_MAX <= QUEUE_HELD_MAX) {
        receive(q);
        if (q->failing)
            return; /* one probe at a time until it answers */
    }
}

void queue_stop(struct queue *q)
{
    q->stopped = true;
}

bool queue_has_held(const struct queue *q)
{
    return q->held > 0;
}

bool queue_is_idle(const struct queue *q)
{
    return q->stopped && q->held == 0 && q->deletes_under_way == 0;
}
