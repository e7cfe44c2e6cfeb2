/*
 * GET /metrics: what this Postern does and has done, for Prometheus. docs/metrics.md explains each
 * figure.
 *
 * Figures come from shared memory, and from the store's totals: a row for each domain and lane. No
 * scrape passes over events or batches, so its cost depends on neither.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "httpd/exposition.h"
#include "httpd/reply.h"
#include "store/changes.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/feed.h"
#include "store/gates.h"
#include "store/totals.h"
#include "store/webhooks.h"

enum { WHOLE = 0, MILLI = 3, MICRO = 6 };

struct lane_totals {
    struct slice domain;
    enum total_lane lane;
    struct totals sum;
};

struct page {
    struct buf to;
    const struct config *config;
    const struct gauges *gauges;
    struct store_txn *t; /* NULL: there is no store yet; its figures are left out */
    struct lane_totals *totals;
    size_t totals_count;
    uint64_t now_us;
};

static uint64_t word(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static struct exposition_labels one_label(const char *name, struct slice value)
{
    return (struct exposition_labels){.list = {{name, value}}, .count = 1};
}

static void add_label(struct exposition_labels *labels, const char *name, struct slice value)
{
    assert(labels->count < EXPOSITION_LABELS_MAX);
    labels->list[labels->count++] = (struct exposition_label){name, value};
}

static void put_one(struct page *p, const char *name, const char *type, const char *help,
                    uint64_t value, unsigned decimals)
{
    const struct exposition_labels none = {.count = 0};

    exposition_family(&p->to, name, type, help);
    exposition_sample(&p->to, name, &none, value, decimals);
}

/* -------- domains and lanes -------- */

static void read_totals(struct page *p)
{
    p->totals = mem_zero(p->config->domain_count * TOTAL_LANES + 1, sizeof *p->totals);
    for (size_t d = 0; d < p->config->domain_count; d++)
        for (enum total_lane lane = 0; lane < TOTAL_LANES; lane++) {
            struct lane_totals *at = &p->totals[p->totals_count++];
            at->domain = slice_str(p->config->domains[d].name);
            at->lane = lane;
            totals_read(p->t, at->domain, lane, &at->sum);
        }
}

static struct exposition_labels labels_of(const struct lane_totals *l)
{
    struct exposition_labels labels = one_label("domain", l->domain);

    add_label(&labels, "lane", slice_str(total_lane_name(l->lane)));
    return labels;
}

/* Recipients have a batch, and so a lane. */
static const struct {
    const char *name, *type, *help;
    size_t total;
} of_recipients[] = {
    {"postern_accepted_recipients_total", "counter", "Recipients of messages that were accepted.",
     TOTAL_ACCEPTED},
    {"postern_sent_recipients_total", "counter", "Recipients whose mail SES has taken.",
     TOTAL_STATE + STATE_SENT},
    {"postern_suppressed_recipients_total", "counter",
     "Recipients not sent to, as their address is on a suppression list.",
     TOTAL_STATE + STATE_SUPPRESSED},
    {"postern_cancelled_recipients_total", "counter",
     "Recipients not sent to, as somebody has cancelled it.", TOTAL_STATE + STATE_CANCELLED},
    {"postern_failed_recipients", "gauge",
     "Recipients whose mail SES refused and that nobody has tried again.",
     TOTAL_STATE + STATE_FAILED},
    {"postern_pending_recipients", "gauge", "Recipients that wait to be sent to.",
     TOTAL_STATE + STATE_PENDING},
    {"postern_leased_recipients", "gauge", "Recipients that a sender has in hand.",
     TOTAL_STATE + STATE_LEASED},
    {"postern_in_doubt_recipients", "gauge",
     "Recipients of whom it is not known yet whether SES has their mail.",
     TOTAL_STATE + STATE_DOUBT},
};

static void put_recipients(struct page *p)
{
    for (size_t i = 0; i < sizeof of_recipients / sizeof *of_recipients; i++) {
        exposition_family(&p->to, of_recipients[i].name, of_recipients[i].type,
                          of_recipients[i].help);
        for (size_t n = 0; n < p->totals_count; n++) {
            struct exposition_labels labels = labels_of(&p->totals[n]);
            if (p->totals[n].lane != TOTAL_NO_LANE)
                exposition_sample(&p->to, of_recipients[i].name, &labels,
                                  p->totals[n].sum.count[of_recipients[i].total], WHOLE);
        }
    }
    exposition_family(&p->to, "postern_unaccounted_recipients", "gauge",
                      "Accepted recipients that are in no state at all: 0, or something is wrong.");
    for (size_t n = 0; n < p->totals_count; n++) {
        struct exposition_labels labels = labels_of(&p->totals[n]);
        if (p->totals[n].lane != TOTAL_NO_LANE)
            exposition_sample(&p->to, "postern_unaccounted_recipients", &labels,
                              totals_unaccounted(&p->totals[n].sum), WHOLE);
    }
}

static const struct {
    const char *name, *help;
    size_t total;
} of_events[] = {
    {"postern_delivered_total", "Mails that the recipient's server has taken.",
     TOTAL_EVENT + COUNT_DELIVERED},
    {"postern_opened_total", "Opens, each time.", TOTAL_EVENT + COUNT_OPENED},
    {"postern_opened_unique_total", "First opens of a mail by its recipient.",
     TOTAL_EVENT + COUNT_OPENED_UNIQUE},
    {"postern_clicked_total", "Clicks, each time.", TOTAL_EVENT + COUNT_CLICKED},
    {"postern_clicked_unique_total", "First clicks in a mail by its recipient.",
     TOTAL_EVENT + COUNT_CLICKED_UNIQUE},
    {"postern_complained_total", "Complaints of recipients.", TOTAL_EVENT + COUNT_COMPLAINED},
    {"postern_unsubscribed_total", "Unsubscriptions.", TOTAL_EVENT + COUNT_UNSUBSCRIBED},
    {"postern_rejected_total", "Mails that SES has taken and then refused to send.",
     TOTAL_EVENT + COUNT_REJECTED},
    {"postern_events_stored_total", "Events that came from SES, each once.", TOTAL_STORED},
    {"postern_events_repeated_total",
     "Events that came again, or too late to be told from a repeat: collapsed.", TOTAL_REPEATED},
    {"postern_events_late_total",
     "Events given a later timestamp than SES's, as a reader was past that.", TOTAL_LATE},
    {"postern_events_too_old_total",
     "Events that came too late to be told from a repeat, and are not stored.",
     TOTAL_EVENT + COUNT_TOO_OLD},
};

static const struct {
    const char *severity, *reason;
    enum count_kind kind;
} failures[] = {
    {"temporary", "espblock", COUNT_TEMPORARY_ESPBLOCK},
    {"permanent", "bounce", COUNT_PERMANENT_BOUNCE},
    {"permanent", "delayed-bounce", COUNT_PERMANENT_DELAYED_BOUNCE},
    {"permanent", "suppress-bounce", COUNT_PERMANENT_SUPPRESS_BOUNCE},
    {"permanent", "suppress-unsubscribe", COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE},
    {"permanent", "suppress-complaint", COUNT_PERMANENT_SUPPRESS_COMPLAINT},
};

static void put_failure(struct page *p, const struct lane_totals *l, const char *severity,
                        const char *reason, uint64_t count)
{
    struct exposition_labels labels = labels_of(l);

    add_label(&labels, "severity", slice_str(severity));
    add_label(&labels, "reason", slice_str(reason));
    exposition_sample(&p->to, "postern_failed_total", &labels, count, WHOLE);
}

static void put_failures(struct page *p)
{
    exposition_family(&p->to, "postern_failed_total", "counter",
                      "Failures that events tell of, by severity and reason.");
    for (size_t n = 0; n < p->totals_count; n++) {
        const uint64_t *count = p->totals[n].sum.count + TOTAL_EVENT;
        uint64_t temporary = count[COUNT_FAILED_TEMPORARY],
                 permanent = count[COUNT_FAILED_PERMANENT];
        for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
            uint64_t of_it = count[failures[i].kind];
            put_failure(p, &p->totals[n], failures[i].severity, failures[i].reason, of_it);
            *(failures[i].kind == COUNT_TEMPORARY_ESPBLOCK ? &temporary : &permanent) -= of_it;
        }
        put_failure(p, &p->totals[n], "temporary", "other", temporary);
        put_failure(p, &p->totals[n], "permanent", "other", permanent);
    }
}

static void put_event_totals(struct page *p)
{
    for (size_t i = 0; i < sizeof of_events / sizeof *of_events; i++) {
        exposition_family(&p->to, of_events[i].name, "counter", of_events[i].help);
        for (size_t n = 0; n < p->totals_count; n++) {
            struct exposition_labels labels = labels_of(&p->totals[n]);
            exposition_sample(&p->to, of_events[i].name, &labels,
                              p->totals[n].sum.count[of_events[i].total], WHOLE);
        }
    }
}

static const struct gauge_held *held_of(const struct gauges *g, struct slice domain)
{
    uint64_t id = gauge_domain_id(domain);

    for (size_t i = 0; i < GAUGE_DOMAINS_MAX; i++) {
        uint64_t found = atomic_load_explicit(&g->held[i].domain_id, memory_order_acquire);
        if (found == 0 || found == id)
            return found == 0 ? NULL : &g->held[i];
    }
    return NULL;
}

static void put_held(struct page *p)
{
    exposition_family(&p->to, "postern_held_recipients", "gauge",
                      "Recipients that are due and wait all the same, by what holds them.");
    for (size_t d = 0; d < p->config->domain_count; d++) {
        struct slice domain = slice_str(p->config->domains[d].name);
        const struct gauge_held *held = held_of(p->gauges, domain);
        for (enum total_lane lane = TOTAL_TRANSACTIONAL; lane <= TOTAL_NEWSLETTER; lane++)
            for (enum gate_reason why = GATE_OPEN + 1; why <= GATE_CONFIGURATION_SET; why++) {
                struct exposition_labels labels = one_label("domain", domain);
                add_label(&labels, "lane", slice_str(total_lane_name(lane)));
                add_label(&labels, "reason", slice_str(gate_reason_name(why)));
                exposition_sample(&p->to, "postern_held_recipients", &labels,
                                  held == NULL ? 0 : word(&held->recipients[lane][why]), WHOLE);
            }
    }
}

/* -------- readers of events -------- */

struct reader {
    uint64_t polled_ms, advanced_ms, event_ms, behind_us;
};

static struct reader reader_of(const struct page *p, struct slice domain)
{
    struct feed feed;
    uint64_t unread_us = feed_first_unread_us(p->t, domain);

    feed_read(p->t, domain, &feed);
    return (struct reader){
        .polled_ms = gauge_poll_last_ms(p->gauges, domain),
        .advanced_ms = feed.read_wall_ms,
        .event_ms = feed.event_wall_ms,
        .behind_us = unread_us != 0 && unread_us < p->now_us ? p->now_us - unread_us : 0,
    };
}

static void put_readers(struct page *p)
{
    static const struct {
        const char *name, *help;
        size_t offset;
        unsigned decimals;
    } figures[] = {
        {"postern_reader_polled_timestamp_seconds",
         "When the domain's events were last asked for; 0 = not since the start.",
         offsetof(struct reader, polled_ms), MILLI},
        {"postern_reader_advanced_timestamp_seconds",
         "When a reader of the domain's events last moved on; 0 = never.",
         offsetof(struct reader, advanced_ms), MILLI},
        {"postern_reader_behind_seconds",
         "How long the oldest event that no answer has covered has been there; 0 = there is none.",
         offsetof(struct reader, behind_us), MICRO},
        {"postern_last_event_timestamp_seconds",
         "When the domain's last event came from SES; 0 = never.",
         offsetof(struct reader, event_ms), MILLI},
    };
    struct reader *readers = mem_zero(p->config->domain_count + 1, sizeof *readers);

    for (size_t d = 0; d < p->config->domain_count; d++)
        readers[d] = reader_of(p, slice_str(p->config->domains[d].name));
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        exposition_family(&p->to, figures[i].name, "gauge", figures[i].help);
        for (size_t d = 0; d < p->config->domain_count; d++) {
            const struct exposition_labels labels =
                one_label("domain", slice_str(p->config->domains[d].name));
            uint64_t value;
            memcpy(&value, (const char *)&readers[d] + figures[i].offset, sizeof value);
            exposition_sample(&p->to, figures[i].name, &labels, value, figures[i].decimals);
        }
    }
    free(readers);
}

/* -------- how long things take -------- */

static void put_histogram(struct page *p, const char *name, const char *help,
                          const struct histogram_scale *scale, const struct histogram_sums *sums,
                          unsigned decimals)
{
    const struct exposition_labels none = {.count = 0};

    exposition_family(&p->to, name, "histogram", help);
    exposition_histogram(&p->to, name, &none, scale, sums, decimals);
}

static void put_latencies(struct page *p)
{
    static const struct {
        const char *name, *help;
    } figures[LATENCY_COUNT] = {
        [LATENCY_ACCEPT] = {"postern_accept_seconds",
                            "From a message's POST, whole, to its being on disk."},
        [LATENCY_EVENTS_PAGE] = {"postern_events_page_seconds",
                                 "From a request for a page of events to its answer."},
        [LATENCY_LEASE] = {"postern_lease_seconds",
                           "From a sender's taking up a lease to SES's answer to a call of it."},
        [LATENCY_CALL] = {"postern_ses_call_seconds", "From a call to SES to its answer."},
    };

    for (size_t which = 0; which < LATENCY_COUNT; which++) {
        struct histogram_sums sums = {0};
        for (size_t slot = 0; slot < GAUGE_SLOTS_MAX; slot++)
            if (gauge_is_used(p->gauges, slot))
                histogram_read(&p->gauges->slots[slot].latency[which], &sums);
        put_histogram(p, figures[which].name, figures[which].help, &histogram_quick_us, &sums,
                      MICRO);
    }
}

static void put_writer(struct page *p)
{
    const struct gauges *g = p->gauges;
    struct histogram_sums lag = {0}, commit = {0}, records = {0};

    histogram_read(&g->events.lag, &lag);
    histogram_read(&g->commit_us, &commit);
    histogram_read(&g->commit_records, &records);
    put_histogram(p, "postern_event_lag_seconds",
                  "From an event's time at SES to its being stored here.", &histogram_lag_us, &lag,
                  MICRO);
    put_histogram(p, "postern_commit_seconds", "How long a commit to the store took, synced.",
                  &histogram_quick_us, &commit, MICRO);
    put_histogram(p, "postern_commit_records",
                  "Records of other processes that one commit covered, where there were any.",
                  &histogram_records, &records, WHOLE);
    put_one(p, "postern_commits_total", "counter", "Commits to the store.",
            word(&g->writer_commits), WHOLE);
}

/* -------- SES -------- */

static void put_ses(struct page *p)
{
    const struct gauges *g = p->gauges;
    uint32_t share = atomic_load_explicit(&g->throttle_share, memory_order_relaxed);

    put_one(p, "postern_ses_rate_recipients_per_second", "gauge",
            "How fast Postern lets itself send; 0 = not known yet.", word(&g->bucket.per_s_milli),
            MILLI);
    put_one(p, "postern_ses_account_rate_recipients_per_second", "gauge",
            "The account's own rate, as SES tells it.", word(&g->account_rate_milli), MILLI);
    put_one(p, "postern_ses_rate_ratio", "gauge",
            "The share of the rate that is used, as SES throttles; 1 = all of it.",
            share == 0 ? 1000 : share, MILLI);
    put_one(p, "postern_ses_quota_recipients", "gauge",
            "How many recipients the account may send to in 24 hours.", word(&g->quota_max_24h),
            WHOLE);
    put_one(p, "postern_ses_quota_sent_recipients", "gauge",
            "How many it has sent to in the last 24 hours, as SES counts.",
            word(&g->quota_sent_24h), WHOLE);
    put_one(p, "postern_ses_account_read_timestamp_seconds", "gauge",
            "When SES last told rate and quota; 0 = never.", word(&g->account_read_wall_ms), MILLI);
    put_one(p, "postern_ses_account_sandboxed", "gauge",
            "1 = the account is in SES's sandbox: only verified recipients are taken.",
            atomic_load_explicit(&g->account_is_sandbox, memory_order_relaxed) != 0, WHOLE);
    put_one(p, "postern_ses_throttled_recipients_total", "counter",
            "Recipients that SES refused for the rate; they are tried again.",
            word(&g->throttled_count), WHOLE);
    put_one(p, "postern_unresolved_placeholders_total", "counter",
            "Placeholders without a value in mails that were rendered.", word(&g->unresolved_count),
            WHOLE);
}

/* -------- the way back -------- */

static void put_queue_counts(struct page *p)
{
    exposition_family(&p->to, "postern_sqs_messages", "gauge",
                      "Messages in a queue of events, as SQS tells about once a minute.");
    for (size_t i = 0; i < p->config->event_queues.count && i < GAUGE_QUEUES_MAX; i++) {
        const struct gauge_queue *q = &p->gauges->queues[i];
        const struct {
            const char *name;
            uint64_t count;
        } states[] = {{"visible", word(&q->visible)},
                      {"in_flight", word(&q->in_flight)},
                      {"delayed", word(&q->delayed)}};
        for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
            struct exposition_labels labels =
                one_label("queue", slice_str(p->config->event_queues.texts[i]));
            add_label(&labels, "state", slice_str(states[s].name));
            exposition_sample(&p->to, "postern_sqs_messages", &labels, states[s].count, WHOLE);
        }
    }
}

static uint64_t oldest_ms(const struct gauge_queue *q)
{
    uint64_t oldest = 0;

    for (size_t i = 0; i < GAUGE_POLLERS_MAX; i++)
        oldest = word(&q->oldest_ms[i]) > oldest ? word(&q->oldest_ms[i]) : oldest;
    return oldest;
}

static void put_queues(struct page *p)
{
    static const char oldest[] = "postern_sqs_oldest_message_seconds",
                      read[] = "postern_sqs_read_timestamp_seconds";
    size_t count = p->config->event_queues.count;

    count = count < GAUGE_QUEUES_MAX ? count : GAUGE_QUEUES_MAX;
    put_queue_counts(p);
    exposition_family(&p->to, oldest, "gauge",
                      "How long the oldest message that was received of late had waited.");
    for (size_t i = 0; i < count; i++) {
        const struct exposition_labels labels =
            one_label("queue", slice_str(p->config->event_queues.texts[i]));
        exposition_sample(&p->to, oldest, &labels, oldest_ms(&p->gauges->queues[i]), MILLI);
    }
    exposition_family(&p->to, read, "gauge", "When SQS last told the depth; 0 = never.");
    for (size_t i = 0; i < count; i++) {
        const struct exposition_labels labels =
            one_label("queue", slice_str(p->config->event_queues.texts[i]));
        exposition_sample(&p->to, read, &labels, word(&p->gauges->queues[i].read_wall_ms), MILLI);
    }
}

/* All 0 where there is none. */
static void put_buffer(struct page *p)
{
    const struct gauge_buffer *b = &p->gauges->buffer;
    const struct {
        const char *name;
        uint64_t count;
    } states[] = {{"visible", word(&b->queue.visible)}, {"in_flight", word(&b->queue.in_flight)}};

    exposition_family(
        &p->to, "postern_buffer_messages", "gauge",
        "Parts of newsletters in the buffer queue, as SQS tells about once a minute.");
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        const struct exposition_labels labels = one_label("state", slice_str(states[s].name));
        exposition_sample(&p->to, "postern_buffer_messages", &labels, states[s].count, WHOLE);
    }
    put_one(p, "postern_buffer_read_timestamp_seconds", "gauge",
            "When SQS last told the buffer's depth; 0 = never.", word(&b->queue.read_wall_ms),
            MILLI);
    put_one(p, "postern_buffer_parts_held", "gauge",
            "Parts of the buffer queue that this machine has taken on and not deleted yet.",
            word(&b->parts), WHOLE);
    put_one(p, "postern_buffer_recipients_held", "gauge",
            "Recipients of these parts that are not settled yet.", word(&b->recipients), WHOLE);
    put_one(p, "postern_buffer_oldest_part_seconds", "gauge",
            "How long ago the oldest of these parts was put on the queue.",
            word(&b->queue.oldest_ms[0]), MILLI);
    put_one(p, "postern_buffer_returned_total", "counter",
            "Parts given back as this machine's event queues are younger than they.",
            word(&b->returned), WHOLE);
}

static void put_events(struct page *p)
{
    const struct gauge_events *e = &p->gauges->events;
    const struct gauge_webhooks *w = &p->gauges->webhooks;

    put_queues(p);
    put_buffer(p);
    put_one(p, "postern_deadletters_received_total", "counter",
            "Messages from SES that were not understood and are kept.", word(&e->deadletters),
            WHOLE);
    put_one(p, "postern_silent_domains", "gauge",
            "Domains whose mails go out and for which no event comes back.",
            word(&e->silent_domains), WHOLE);
    put_one(p, "postern_no_outcome_recipients", "gauge",
            "Mails sent long ago of whose end SES has told nothing.",
            word(&e->no_outcome_recipients), WHOLE);
    put_one(p, "postern_webhook_events_taken_total", "counter",
            "Events that a receiver of a webhook has taken.", word(&w->taken), WHOLE);
    put_one(p, "postern_webhook_events_retried_total", "counter",
            "Attempts at a webhook that failed and are repeated.", word(&w->retried), WHOLE);
    put_one(p, "postern_webhook_events_given_up_total", "counter",
            "Events that a webhook was not told: refused, or failed for the last time.",
            word(&w->given_up), WHOLE);
}

/* -------- processes and rings -------- */

static struct exposition_labels labels_of_life(const struct gauge_life *life, char index[16])
{
    uint32_t role = atomic_load_explicit(&life->role, memory_order_relaxed);
    struct exposition_labels labels =
        one_label("process", slice_str(child_role_name((enum child_role)role)));

    (void)snprintf(index, 16, "%u",
                   (unsigned)atomic_load_explicit(&life->index, memory_order_relaxed));
    add_label(&labels, "index", slice_str(index));
    return labels;
}

typedef uint64_t process_figure(const struct gauges *g, size_t at);

static uint64_t restarts_of(const struct gauges *g, size_t at)
{
    return atomic_load_explicit(&g->lives[at].restarts, memory_order_relaxed);
}

static uint64_t is_up(const struct gauges *g, size_t at)
{
    uint32_t state = atomic_load_explicit(&g->slots[at].state, memory_order_relaxed);

    return state == GAUGE_READY || state == GAUGE_LEAVING;
}

static uint64_t cpu_of(const struct gauges *g, size_t at)
{
    return word(&g->lives[at].cpu_us);
}

static uint64_t memory_of(const struct gauges *g, size_t at)
{
    return word(&g->lives[at].resident_bytes);
}

static void put_process_figure(struct page *p, const char *name, const char *type, const char *help,
                               process_figure *figure, unsigned decimals)
{
    char index[16];

    exposition_family(&p->to, name, type, help);
    for (size_t i = 0; i < GAUGE_SLOTS_MAX; i++) {
        /* What a place has counted stays, when a reload leaves it empty; nobody is missing there. */
        bool is_empty =
            atomic_load_explicit(&p->gauges->lives[i].is_unused, memory_order_relaxed) != 0;
        if (!gauge_is_used(p->gauges, i) || (is_empty && strcmp(type, "gauge") == 0))
            continue;
        struct exposition_labels labels = labels_of_life(&p->gauges->lives[i], index);
        exposition_sample(&p->to, name, &labels, figure(p->gauges, i), decimals);
    }
}

static void put_master_figure(struct page *p, const char *name, uint64_t value, unsigned decimals)
{
    struct exposition_labels labels = one_label("process", SLICE("master"));

    add_label(&labels, "index", SLICE("0"));
    exposition_sample(&p->to, name, &labels, value, decimals);
}

static void put_processes(struct page *p)
{
    static const char cpu[] = "postern_process_cpu_seconds_total",
                      memory[] = "postern_process_resident_memory_bytes";

    put_process_figure(p, "postern_process_restarts_total", "counter",
                       "How often the place of a process was filled anew, by reloads, too.",
                       restarts_of, WHOLE);
    put_process_figure(p, "postern_process_up", "gauge", "1 = the process is at work.", is_up,
                       WHOLE);
    put_process_figure(p, cpu, "counter", "Processor time, of all lives of the place.", cpu_of,
                       MICRO);
    put_master_figure(p, cpu, word(&p->gauges->master.cpu_us), MICRO);
    put_process_figure(p, memory, "gauge", "Memory in use, what processes share counted in each.",
                       memory_of, WHOLE);
    put_master_figure(p, memory, word(&p->gauges->master.resident_bytes), WHOLE);
    put_one(p, "postern_start_timestamp_seconds", "gauge", "When the master was started.",
            word(&p->gauges->started_wall_ms), MILLI);
}

static uint64_t up_used(const struct gauges *g, size_t at)
{
    return word(&g->rings[at].up_used_bytes);
}

static uint64_t down_used(const struct gauges *g, size_t at)
{
    return word(&g->rings[at].down_used_bytes);
}

static uint64_t up_bytes(const struct gauges *g, size_t at)
{
    return word(&g->rings[at].up_bytes);
}

static uint64_t down_bytes(const struct gauges *g, size_t at)
{
    return word(&g->rings[at].down_bytes);
}

static uint64_t up_full(const struct gauges *g, size_t at)
{
    return word(&g->slots[at].ring_full);
}

static uint64_t down_full(const struct gauges *g, size_t at)
{
    return word(&g->rings[at].down_full);
}

static void put_ring_figure(struct page *p, const char *name, const char *type, const char *help,
                            process_figure *up, process_figure *down)
{
    char index[16];

    exposition_family(&p->to, name, type, help);
    for (size_t i = 0; i < GAUGE_SLOTS_MAX; i++) {
        if (up_bytes(p->gauges, i) == 0)
            continue;
        struct exposition_labels labels = labels_of_life(&p->gauges->lives[i], index);
        add_label(&labels, "direction", SLICE("up"));
        exposition_sample(&p->to, name, &labels, up(p->gauges, i), WHOLE);
        labels.list[labels.count - 1].value = SLICE("down");
        exposition_sample(&p->to, name, &labels, down(p->gauges, i), WHOLE);
    }
}

static void put_rings(struct page *p)
{
    put_ring_figure(p, "postern_ring_used_bytes", "gauge",
                    "What waits in a ring to the writer (up) or from it (down).", up_used,
                    down_used);
    put_ring_figure(p, "postern_ring_size_bytes", "gauge", "The size of a ring.", up_bytes,
                    down_bytes);
    put_ring_figure(p, "postern_ring_full_total", "counter",
                    "How often a record did not fit into a ring and had to wait.", up_full,
                    down_full);
}

/* -------- the store -------- */

static void put_store(struct page *p)
{
    struct store_room room;
    uint64_t waiting, failed, oldest_us, now_us = clock_wall_us();
    uint64_t untold = changes_untold(p->t, &oldest_us);

    store_room(p->t, &room);
    webhook_counts(p->t, &waiting, &failed);
    put_one(p, "postern_store_used_bytes", "gauge", "Pages of the store that hold something.",
            room.used_bytes, WHOLE);
    put_one(p, "postern_store_file_bytes", "gauge", "The store's file, as far as it is written.",
            room.file_bytes, WHOLE);
    put_one(p, "postern_store_map_bytes", "gauge",
            "How far the file may grow before its map is made larger.", room.map_bytes, WHOLE);
    put_one(p, "postern_store_free_pages", "gauge", "Pages of the file that will be used again.",
            room.free_pages, WHOLE);
    put_one(p, "postern_store_disk_free_bytes", "gauge", "What is free on the store's disk.",
            room.disk_free_bytes, WHOLE);
    put_one(p, "postern_deadletters_kept", "gauge",
            "Messages from SES that were not understood and wait: postern deadletters.",
            deadletter_count(p->t), WHOLE);
    put_one(p, "postern_webhook_events_waiting", "gauge",
            "Events that a webhook is still to be told.", waiting, WHOLE);
    put_one(p, "postern_webhook_events_failed", "gauge",
            "Events given up and kept: postern webhooks failures.", failed, WHOLE);
    put_one(p, "postern_replication_changes_waiting", "gauge",
            "Changes that other machines are still to be told.", untold, WHOLE);
    put_one(p, "postern_replication_oldest_change_seconds", "gauge",
            "How long the oldest of them has waited.",
            untold == 0 || oldest_us > now_us ? 0 : now_us - oldest_us, MICRO);
}

static void put_from_store(struct page *p)
{
    read_totals(p);
    put_recipients(p);
    put_event_totals(p);
    put_failures(p);
    put_readers(p);
    put_store(p);
    free(p->totals);
}

void metrics_handle(struct exchange *x)
{
    struct service *s = x->service;
    struct page p = {.config = s->me->config, .gauges = s->me->gauges, .now_us = clock_wall_us()};
    struct err err;

    if (s->store != NULL) {
        p.t = store_begin_read(s->store, &err);
        if (p.t == NULL)
            log_err(&err, "the store's metrics cannot be read");
    }
    if (p.t != NULL) {
        put_from_store(&p);
        store_end_read(p.t);
    }
    put_held(&p);
    put_latencies(&p);
    put_writer(&p);
    put_ses(&p);
    put_events(&p);
    put_processes(&p);
    put_rings(&p);
    reply_bytes(x, 200, EXPOSITION_TYPE, &p.to);
}
