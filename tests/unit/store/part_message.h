/*
 * tests/unit/store/part_message.h - a newsletter to RECIPIENTS readers as a message of the buffer
 * queue, for the tests of what machines share. Included once by such a test.
 */
#ifndef TESTS_UNIT_STORE_PART_MESSAGE_H
#define TESTS_UNIT_STORE_PART_MESSAGE_H

#include "base/pack.h"
#include "mail/form.h"
#include "store/parts.h"
#include "tests/unit/store/world.h"

enum { RECIPIENTS = 70 };

static struct {
    struct buf head, content, slices;
} packed;

static void write_message(struct world *w)
{
    struct message_head h = {.domain = SLICE("mg.example.com"),
                             .message_id = SLICE("1.2@mg.example.com"),
                             .email_id = SLICE("6b041b59ddb6680c07e77357"),
                             .from = SLICE("a@mg.example.com"),
                             .batch_mode = true,
                             .recipient_count = RECIPIENTS,
                             .lane = LANE_NEWSLETTER,
                             .accepted_wall_us = UINT64_C(1700000000000000)};
    struct message_content content = {.from = h.from, .batch_mode = true};
    struct recipient list[RECIPIENTS] = {{.kind = RECIPIENT_TO}};
    char addresses[RECIPIENTS][40];
    struct buf one = {0};

    for (uint32_t i = 0; i < RECIPIENTS; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%u@readers.example.net", i);
        list[i].address = slice_str(addresses[i]);
    }
    const struct submission all = {.head = h, .recipients = list, .recipient_count = RECIPIENTS};
    submission_claims(&all, &w->claims);
    message_head_pack(&packed.head, &h);
    message_content_pack(&packed.content, &content);
    pack_array(&packed.slices, slice_count_of(RECIPIENTS));
    for (uint32_t at = 0; at < RECIPIENTS; at += SLICE_MAX) {
        buf_reset(&one);
        recipients_pack(&one, list + at, slice_len_of(RECIPIENTS, at / SLICE_MAX));
        pack_bin(&packed.slices, buf_slice(&one));
    }
    buf_fini(&one);
}

static void message_free(void)
{
    buf_fini(&packed.head);
    buf_fini(&packed.content);
    buf_fini(&packed.slices);
}

static struct record_part message(struct world *w, uint64_t id, uint32_t receives,
                                  uint64_t until_mono_ms)
{
    return (struct record_part){.batch_id = id,
                                .domain = SLICE("mg.example.com"),
                                .head = buf_slice(&packed.head),
                                .content = buf_slice(&packed.content),
                                .slices = buf_slice(&packed.slices),
                                .recipient_count = RECIPIENTS,
                                .claims = buf_slice(&w->claims),
                                .lane = LANE_NEWSLETTER,
                                .receives = receives,
                                .until_mono_ms = until_mono_ms};
}

static void take(struct world *w, uint64_t id, uint32_t receives, uint64_t until_mono_ms)
{
    struct record_part r = message(w, id, receives, until_mono_ms);
    struct store_txn *t = begin(w);
    struct slice why;
    struct err err;

    assert_int_equal(part_take(w->scheduler, t, &r, &why, &err), 1);
    commit(w, t);
}

static struct books books_of(struct world *w, uint64_t id)
{
    struct books b;
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);

    assert_true(batch_books(t, id, &b));
    store_end_read(t);
    return b;
}

#endif
