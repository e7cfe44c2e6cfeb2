#include "store/as_json.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/digest.h"
#include "base/json.h"

static const char *const state_names[STATE_COUNT] = {
    "pending", "leased", "doubt", "sent", "failed", "suppressed", "cancelled", "duplicate"};

uint32_t books_balance(const struct books *b)
{
    uint32_t sum = 0;

    for (int i = 0; i < STATE_COUNT; i++)
        if (i != STATE_DUPLICATE)
            sum += b->state[i];
    return sum;
}

const char *recipient_state_name(enum recipient_state state)
{
    return state < STATE_COUNT ? state_names[state] : "unknown";
}

void batch_put_json(struct buf *to, uint64_t id, const struct message_head *h,
                    const struct books *b, uint32_t no_outcome)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%016" PRIx64, id);
    json_put_str(to, "batch", slice_str(text));
    json_put_str(to, "domain", h->domain);
    json_put_str(to, "message-id", h->message_id);
    json_put_str(to, "email-id", h->email_id);
    json_put_str(to, "subject", h->subject);
    json_put_str(to, "request-id", h->request_id);
    json_put_u64(to, "accepted-at-us", h->accepted_wall_us);
    json_put_u64(to, "accepted", b->accepted);
    for (int i = 0; i < STATE_COUNT; i++)
        json_put_u64(to, state_names[i], b->state[i]);
    json_put_u64(to, "delivered", b->delivered);
    json_put_u64(to, "failed-permanent", b->failed_permanent);
    json_put_u64(to, "failed-temporary", b->failed_temporary);
    json_put_u64(to, "opened", b->opened);
    json_put_u64(to, "clicked", b->clicked);
    json_put_u64(to, "complained", b->complained);
    json_put_u64(to, "unsubscribed", b->unsubscribed);
    json_put_u64(to, "outcomes", b->outcomes);
    json_put_u64(to, "no-outcome", no_outcome);
    json_put_i64(to, "unaccounted", (int64_t)b->accepted - (int64_t)books_balance(b));
}

void reputation_put_json(struct buf *to, const struct reputation *r, struct slice domain,
                         uint64_t now_wall_ms, uint64_t window_ms)
{
    struct reputation_sums day = reputation_since(r, domain, now_wall_ms - DAY_MS),
                           all = reputation_since(r, domain, now_wall_ms - window_ms);

    json_put_str(to, "domain", domain);
    json_put_u64(to, "sent-24h", day.count[REPUTATION_SENT]);
    json_put_u64(to, "window-ms", window_ms);
    json_put_u64(to, "sent", all.count[REPUTATION_SENT]);
    json_put_u64(to, "hard-bounces", all.count[REPUTATION_BOUNCED]);
    json_put_u64(to, "complaints", all.count[REPUTATION_COMPLAINED]);
}

void deadletter_put_json(struct buf *to, const struct deadletter *d, size_t raw_most)
{
    struct buf id = {0};

    text_hex(&id, slice_of(d->id, DEADLETTER_ID_BYTES));
    json_put_str(to, "id", buf_slice(&id));
    json_put_u64(to, "stored-at-us", d->wall_us);
    json_put_str(to, "source", d->source);
    json_put_str(to, "message-id", d->message_id);
    json_put_str(to, "why", d->why);
    json_put_str(to, "raw", slice_head(d->raw, raw_most));
    buf_fini(&id);
}
