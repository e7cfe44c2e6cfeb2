/*
 * tests/bench/newsletter_events.h - the events of many newsletters, for the benchmarks' stores.
 *
 * Newsletters of READERS readers in batches of 1,000, one after another: each reader has a delivery,
 * two of three open, some seconds to a day later, whatever else is going on then. The id of a
 * message is its batch's; one event in twenty is of a mail with an id of its own.
 */
#ifndef BENCH_NEWSLETTER_EVENTS_H
#define BENCH_NEWSLETTER_EVENTS_H

#include <stdio.h>

#include "base/digest.h"
#include "store/events.h"

enum { BATCH = 1000, READERS = 200000, NEWSLETTER_STEP_US = 1200 };
#define NEVER_US UINT64_C(1900000000000000)

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Event number i of all: the mail that it is about, and when it happened. 1, as event_put(). */
static int newsletter_event_put(struct store_txn *t, struct slice domain, uint64_t start_us,
                                uint64_t i, struct err *err)
{
    struct slice tags[] = {SLICE("bulk-email"), SLICE("ghost-email")};
    struct name_value var = {SLICE("email-id"), SLICE("65f0c1e2a3b4c5d6e7f80910")};
    bool opened = next_random() % 5 < 2;
    /* 500 a second are sent; an open is about one of the last day's mails, mostly new ones. */
    uint64_t now_us = start_us + i * NEWSLETTER_STEP_US, sent = i * 3 / 5, mail = sent;
    if (opened) {
        uint64_t back = next_random() % (1 + next_random() % (sent < 2000000 ? sent + 1 : 2000000));
        mail = sent - back;
    }
    char address[64], message[80], own[80], answer[96], ip[24];
    int address_len = snprintf(address, sizeof address, "reader-%llu@example%llu.net",
                               (unsigned long long)(mail % READERS * 7919 % READERS),
                               (unsigned long long)(mail % 97));
    int message_len =
        snprintf(message, sizeof message, "20260916041835.%016llx@mg.example.com",
                 (unsigned long long)(i % 20 == 0 ? ~mail : mail / BATCH) * 0x9e3779b97f4a7c15u);
    int own_len = snprintf(own, sizeof own, "0100018f2a3b4c5d-%08llx-4e5f-6789-abcd-%012llx-000000",
                           (unsigned long long)mail, (unsigned long long)mail);
    int answer_len =
        snprintf(answer, sizeof answer, "250 2.0.0 OK  %llu d75a77b69052e-%llx.45 - gsmtp",
                 (unsigned long long)(now_us / 1000000), (unsigned long long)(next_random() >> 20));
    int ip_len = snprintf(ip, sizeof ip, "54.240.8.%llu", (unsigned long long)(mail * 7 % 61));
    struct event e = {
        .ses_us = now_us + next_random() % 3000000,
        .type = opened ? EVENT_OPENED : EVENT_DELIVERED,
        .domain = domain,
        .recipient = slice_of(address, (size_t)address_len),
        .message_id = slice_of(message, (size_t)message_len),
        .to = slice_of(address, (size_t)address_len),
        .from = SLICE("The News <news@mg.example.com>"),
        .subject = SLICE("What happened this week, and what it means"),
        .tags = tags,
        .tag_count = 2,
        .vars = &var,
        .var_count = 1,
        .size_bytes = 18231,
        .envelope_sender = SLICE("bounce@mg.example.com"),
        .status = {.present = !opened,
                   .code = 250,
                   .message = slice_of(answer, (size_t)answer_len),
                   .session_ms = (uint32_t)(300 + mail * 31 % 2700),
                   .attempt_no = 1},
        .sending_ip = opened ? slice_none() : slice_of(ip, (size_t)ip_len),
        .ip = opened ? SLICE("203.0.113.9") : slice_none(),
        .user_agent = opened ? SLICE("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 "
                                     "(via ggpht.com GoogleImageProxy)")
                             : slice_none(),
        .ses_id = slice_of(own, (size_t)own_len),
    };
    struct slice parts[] = {e.ses_id, domain, slice_of(&i, sizeof i)};
    event_make_id(&e, parts, 3);
    return event_put(t, &e, NEVER_US, err);
}

#endif
