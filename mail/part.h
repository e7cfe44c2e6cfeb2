/*
 * mail/part.h - a batch cut into messages for the buffer queue, and read back.
 *
 * SHAPE   A part is a batch of its own: a run of recipients with head and content, under an id of
 *         its own (the first part's and those behind it), so that a recipient's index is the same
 *         at every machine that reads it. On the wire: base64 of msgpack ["postern-part", version,
 *         batch id, part, parts, domain, claims' hash, head, recipients, content]; recipients and
 *         content are zstd frames with a checksum. The content is compressed once for all parts.
 * ORDER   Recipients are sorted by their claims and cut by number, so that a repeated POST gives
 *         the same parts wherever it arrives. A part's group (16 bytes) is a hash of its claims: the
 *         queue gives parts of one group to one machine at a time.
 * MEMORY  Texts of a part that was read lie in the caller's arena.
 * ERRORS  PART_LOCAL: it cannot travel (no email-id, no batch mode, copies). PART_TOO_LARGE: not
 *         even the fewest recipients fit. PART_BAD: these bytes are no batch. part_read(): false and
 *         *why for whatever part_cut() has not made.
 * SOURCE  spec/aws.md §9 for sizes; RFC 8878 (zstd).
 */
#ifndef MAIL_PART_H
#define MAIL_PART_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    PART_VERSION = 1,
    PART_LEAST_RECIPIENTS = 50, /* a slice */
    PART_MOST_RECIPIENTS = 500, /* more would keep other machines idle */
    PARTS_MAX = 20,             /* of 1,000 recipients, a slice each */
    PART_GROUP_BYTES = 16,
    PART_CLAIM_BYTES = 16,
    PART_CONTENT_MAX = 64 << 20, /* bytes, before compression; and of the recipients */
};

enum part_verdict { PART_OK, PART_LOCAL, PART_TOO_LARGE, PART_BAD };

struct part_source {
    uint64_t batch_id;          /* of the first part */
    struct slice head, content; /* packed */
    struct slice slices;        /* packed array of bin: slices of recipients */
};

struct part_message {
    struct slice body; /* base64: what SQS carries */
    uint8_t group[PART_GROUP_BYTES];
    uint64_t batch_id;
    uint32_t recipient_count;
};

struct part_messages {
    struct part_message list[PARTS_MAX];
    size_t count;
};

/* message_max: bytes of a body. */
enum part_verdict part_cut(const struct part_source *from, size_t message_max, struct arena *a,
                           struct part_messages *to);

/* The group of a whole batch's recipients: names a POST and its repeats. claims: 16 bytes each. */
void part_group_of(struct slice claims, uint8_t out[PART_GROUP_BYTES]);

struct part {
    uint64_t batch_id;
    uint32_t number, count; /* this part, of so many */
    struct slice domain;
    struct slice head, content, slices; /* packed; head's recipient_count is the part's */
    struct slice claims;                /* 16 bytes per recipient */
    uint32_t recipient_count;
    uint32_t lane;
    uint64_t due_wall_ms;
};

bool part_read(struct slice body, struct arena *a, struct part *p, struct slice *why);

#endif
