#include "store/as_json.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/digest.h"
#include "base/json.h"
#include "store/events.h"

enum { FAILURE_ID_BYTES = 12 }; /* of the SHA-256 of what names it: what people type */

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

void webhook_target_put_json(struct buf *to, struct store_txn *t,
                             const struct webhook_target *target, uint64_t most)
{
    unsigned kinds = webhook_target_kinds(t, target);
    bool any = false;

    json_put_str(to, "domain", target->domain);
    json_put_str(to, "url", target->url);
    json_put_name(to, "kinds");
    buf_add_byte(to, '[');
    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        if ((kinds >> kind & 1) == 0)
            continue;
        if (any)
            buf_add_byte(to, ',');
        json_put_text(to, slice_str(webhook_kind_name((enum webhook_kind)kind)));
        any = true;
    }
    buf_add_byte(to, ']');
    json_put_str(to, "state",
                 kinds == 0             ? SLICE("removed")
                 : target->failures > 0 ? SLICE("failing")
                                        : SLICE("fine"));
    json_put_u64(to, "delivered", target->taken);
    json_put_u64(to, "given-up", target->refused);
    json_put_u64(to, "waiting", webhook_due_count(t, target->id, most));
    json_put_u64(to, "failures-in-a-row", target->failures);
    json_put_u64(to, "delivered-at-us", target->taken_us);
    json_put_u64(to, "failed-at-us", target->failed_us);
    json_put_u64(to, "status", target->status);
    json_put_str(to, "words", target->words);
}

void webhook_failure_put_id(struct buf *to, const struct webhook_failure *f)
{
    uint8_t hash[SHA256_BYTES];

    digest_sha256(slice_of(f->id, WEBHOOK_FAILURE_BYTES), hash);
    text_hex(to, slice_of(hash, FAILURE_ID_BYTES));
}

struct slice webhook_failure_about(struct store_txn *t, const struct webhook_failure *f,
                                   const struct webhook_target *target, struct arena *a,
                                   struct slice *recipient)
{
    struct event e;

    *recipient = slice_none();
    if (!event_at(t, target->domain, f->id + WEBHOOK_TARGET_BYTES, a, &e))
        return SLICE("(event past retention)");
    *recipient = e.recipient;
    return slice_str(webhook_kind_name(webhook_kind_of(&e)));
}

void webhook_failure_put_json(struct buf *to, struct store_txn *t, const struct webhook_failure *f,
                              const struct webhook_target *target)
{
    struct arena a = {0};
    struct buf id = {0};
    struct slice recipient, kind = webhook_failure_about(t, f, target, &a, &recipient);

    webhook_failure_put_id(&id, f);
    json_put_str(to, "id", buf_slice(&id));
    json_put_str(to, "domain", target->domain);
    json_put_str(to, "url", target->url);
    json_put_str(to, "kind", kind);
    json_put_str(to, "recipient", recipient);
    json_put_u64(to, "failed-at-us", f->failed_us);
    json_put_u64(to, "attempts", f->attempts);
    json_put_u64(to, "status", f->status);
    json_put_str(to, "words", f->words);
    buf_fini(&id);
    arena_fini(&a);
}
