/*
 * tests/sim/sim.c - where a fleet of Posterns saturates, and what it costs: a table. make sim.
 *
 * sim [SEED]   ends with 1 when somebody is missing or got it twice.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "poller/buffer_in.h"
#include "store/part_rules.h"
#include "tests/sim/fleet.h"

enum {
    INTAKE = 22000,  /* events a second: one poller's (docs/benchmarks.md) */
    ANY = 100000000, /* no limit */
    FIFO_CALLS = 300,
    HIGH_THROUGHPUT_CALLS = 9000,
    BULK = 50,
    FIFO_IN_FLIGHT = 120000,
    OFTEN_S = 1800, /* a node is in trouble for ten minutes as often */
};

struct row {
    const char *what;
    struct fleet_options o;
};

static const struct row rows[] = {
    {"one machine", {.nodes = 1, .recipients = 10000000, .rate = 2000}},
    {"two", {.nodes = 2, .recipients = 10000000, .rate = 2000}},
    {"two, one lost at the start of the second half",
     {.nodes = 2, .recipients = 10000000, .rate = 2000, .first_is_lost_ms = 2540000}},
    {"two, max_rate 75 % each",
     {.nodes = 2, .recipients = 10000000, .rate = 2000, .share_percent = 75}},
    {"three, each in trouble every half hour",
     {.nodes = 3, .recipients = 10000000, .rate = 2000, .mean_s_between_troubles = OFTEN_S}},
    {"twenty", {.nodes = 20, .recipients = 10000000, .rate = 8000}},
    {"a hundred, each in trouble every half hour",
     {.nodes = 100, .recipients = 100000000, .rate = 4000, .mean_s_between_troubles = OFTEN_S}},
    {"the same near what a machine can hear",
     {.nodes = 100, .recipients = 20000000, .rate = 8000, .mean_s_between_troubles = OFTEN_S}},
    {"a hundred, SES faster than their event queues",
     {.nodes = 100, .recipients = 20000000, .rate = 50000}},
    {"the same, were events no limit",
     {.nodes = 100, .recipients = 50000000, .rate = 50000, .intake_per_s = ANY}},
    {"the same, faster, high throughput mode",
     {.nodes = 100,
      .recipients = 100000000,
      .rate = 200000,
      .intake_per_s = ANY,
      .calls_max = HIGH_THROUGHPUT_CALLS}},
};

static uint64_t per_thousand(uint64_t calls, uint64_t recipients)
{
    return (calls * 10000 + recipients / 2) / recipients; /* × 10 */
}

/* Of the steady part: the second half. */
static uint64_t rate_of(const struct fleet_options *o, const struct fleet_result *r)
{
    uint64_t ms = r->last_taken_ms - r->half_taken_ms;

    return ms == 0 ? 0 : o->recipients / 2 * 1000 / ms;
}

static const char *limit_of(const struct fleet_options *o, const struct fleet_result *r)
{
    if (o->mean_s_between_troubles != 0 || o->first_is_lost_ms != 0)
        return "machines that are away";
    if (rate_of(o, r) * 100 >= o->rate * 96)
        return "SES's rate";
    if (r->unheard_peak_ms > o->window_ms / 4)
        return "events: each machine hears all";
    if (r->queue_full > 0)
        return "the queue's messages in flight";
    if (r->held_peak >= BUFFER_HELD_MAX)
        return "messages held by a machine";
    return r->queue_refused > 0 ? "the queue's calls a second" : "shares that are whole percents";
}

static void print_row(const struct row *row, const struct fleet_options *o,
                      const struct fleet_result *r)
{
    uint64_t buffer = r->calls[FIFO_SEND] + r->calls[FIFO_RECEIVE] + r->calls[FIFO_CHANGE] +
                      r->calls[FIFO_DELETE];
    uint64_t ten = per_thousand(buffer, o->recipients),
             events = per_thousand(r->event_calls, o->recipients);

    printf("| %s | %" PRIu64 " M at %" PRIu64 " | %" PRIu64 " | %s | %" PRIu64 ".%" PRIu64
           " | %" PRIu64 " | %" PRIu32 " | %" PRIu32 " | %" PRIu64 " | %" PRIu64 ", %" PRIu64
           " |\n",
           row->what, o->recipients / 1000000, o->rate, rate_of(o, r), limit_of(o, r), ten / 10,
           ten % 10, events / 10, r->busiest[FIFO_CHANGE], r->in_flight_peak,
           o->rate == 0 ? 0 : r->refused * 10000 / o->recipients, r->missing, r->twice);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int status = 0;

    puts("| machines | recipients, SES's rate | reached a second | limited by | buffer's requests "
         "for 1,000 | events' requests for 1,000 | busiest second: changes | in flight | refused "
         "by SES, of 10,000 | missing, twice |\n|---|---|---|---|---|---|---|---|---|---|");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fleet_options o = rows[i].o;
        struct fleet_result r;
        o.seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
        o.events_milli = 2500; /* Send, Delivery, half an Open */
        o.visibility_ms = 120000;
        o.window_ms = 600000;
        o.lost_for_good = 50;
        o.repeats = 10;
        o.entries_least = BULK;
        o.intake_per_s = o.intake_per_s != 0 ? o.intake_per_s : INTAKE;
        o.calls_max = o.calls_max != 0 ? o.calls_max : FIFO_CALLS;
        o.in_flight_max = FIFO_IN_FLIGHT;
        fleet_run(&o, &r);
        print_row(&rows[i], &o, &r);
        if (r.missing != 0 || r.twice != 0 || !r.is_over)
            status = 1;
    }
    return status;
}
