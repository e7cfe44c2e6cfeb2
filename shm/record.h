/*
 * shm/record.h - the records that processes hand each other through rings.
 *
 * SHAPE   msgpack: [version, kind, {tag: value, …}]. Each record is one table below; struct,
 *         encoder, decoder and golden test expand from it. Types: u64, u32, bool and text (any
 *         bytes).
 * ENDS    Beside each table: from → to.
 * MEMORY  Texts of a decoded record borrow from the bytes decoded.
 * ERRORS  record_decode() answers false for another version, an unknown kind, a missing REQUIRED
 *         field, a wrong type, or bytes left over. Unknown tags are passed over (a newer peer).
 *         httpd faces the internet: the writer treats all of it as untrusted.
 */
#ifndef SHM_RECORD_H
#define SHM_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum { RECORD_VERSION = 1 };
enum {
    LEASE_RECIPIENTS_MAX = 50
}; /* also the size of a stored slice of recipients; SES's bulk limit */
enum { CLAIM_BYTES = 16, UNHEARD_MS = 20 * 60 * 1000 };

enum record_kind {
    RECORD_ACCEPT = 1,
    RECORD_SEEN,
    RECORD_UNSUPPRESS,
    RECORD_ANSWER,
    RECORD_LEASE,
    RECORD_OUTCOMES,
    RECORD_EVENT,
    RECORD_DEADLETTER,
    RECORD_LIFTED,
    RECORD_CONTROL = 11, /* 10 was a record that nobody sends any more */
    RECORD_CONTROLLED,
    RECORD_UNHEARD,
    RECORD_SUPPRESS,
    RECORD_REPLAYED,
    RECORD_WEBHOOK,
    RECORD_POSTED,
    RECORD_CANCEL,
    RECORD_QUEUES,
    RECORD_TAG,
    RECORD_TEMPLATE,
    RECORD_ELSEWHERE,
    RECORD_ASK,
    RECORD_BUFFERED,
    RECORD_PART,
    RECORD_HELD,
    RECORD_CHANGE,
    RECORD_REPLICA,
    RECORD_TOLD,
};
enum { RECORD_KIND_LAST = RECORD_TOLD };

/* httpd → writer: keep this batch. Answered by ANSWER. A repeat (same ring position) is not
 * applied. */
#define ACCEPT(F)                                                                                  \
    F(1, u64, request_id, REQUIRED) /* of this httpd's life; comes back in ANSWER */               \
    F(2, u64, generation, REQUIRED) /* of the httpd */                                             \
    F(3, text, domain, REQUIRED)    /* as configured, lower case */                                \
    F(4, text, answer_id, REQUIRED) /* what the answer's "id" shall be, brackets included */       \
    F(5, text, head, REQUIRED)      /* packed struct message_head */                               \
    F(6, text, content, REQUIRED)   /* packed struct message_content */                            \
    F(7, text, slices, REQUIRED)    /* packed array of bin: each a packed slice of recipients */   \
    F(8, u32, recipient_count, REQUIRED)                                                           \
    F(9, text, claims, OPTIONAL) /* recipient_count × CLAIM_BYTES; empty = no duplicate check */  \
    F(10, u64, due_wall_ms, REQUIRED) /* 0 = now */                                                \
    F(11, u32, lane, REQUIRED)        /* enum lane */                                              \
    F(12, bool, testmode, REQUIRED)                                                                \
    F(13, text, digest, OPTIONAL)  /* CLAIM_BYTES of all fields, when there are no claims */       \
    F(14, text, once, OPTIONAL)    /* CLAIM_BYTES: whatever has come with these before is this */  \
    F(15, bool, awaited, OPTIONAL) /* the client waits for SES's word: it is kept (store/taken.h) */

/* httpd → writer: the client of this ACCEPT was gone before its answer, or heard that it failed: a
 * repeat of the same fields within UNHEARD_MS is the same message. SOURCE spec/ghost.md §6. */
#define UNHEARD(F)                                                                                 \
    F(1, text, domain, REQUIRED)                                                                   \
    F(2, text, digest, REQUIRED)    /* CLAIM_BYTES */                                              \
    F(3, text, answer_id, REQUIRED) /* as in ACCEPT */

/* httpd → writer: I am about to answer a reader with events up to here. Answered once committed. */
#define SEEN(F)                                                                                    \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, u64, until_us, REQUIRED)

/* httpd → writer: take this address off the list, in every domain named. */
#define UNSUPPRESS(F)                                                                              \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domains, REQUIRED) /* packed array of text; the first is the one in the path */     \
    F(4, u32, list, REQUIRED)     /* enum suppression */                                           \
    F(5, text, address, REQUIRED) /* empty: some of all that there are, till ANSWER_OK */          \
    F(6, text, tag, OPTIONAL)     /* unsubscribes: only from this tag; "*" or empty = from all */

/* httpd → writer: put these addresses on the domain's list. entries: a packed array of [address,
 * code, text, µs, tags]; tags: a packed array of text, or empty = everything. */
#define SUPPRESS(F)                                                                                \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, u32, list, REQUIRED) /* enum suppression */                                               \
    F(5, text, entries, REQUIRED)

/* httpd → writer: change where a domain's events are told. urls: a packed array of text. */
#define WEBHOOK(F)                                                                                 \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, u32, change, REQUIRED) /* enum webhook_change */                                          \
    F(5, u32, kinds, REQUIRED)  /* bit i: enum webhook_kind i */                                   \
    F(6, text, urls, REQUIRED)

/* httpd → writer: change a stored template, or a version of it. */
#define TEMPLATE(F)                                                                                \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, u32, change, REQUIRED) /* enum template_change */                                         \
    F(5, text, name, OPTIONAL)  /* lower case */                                                   \
    F(6, text, tag, OPTIONAL)   /* of the version; lower case */                                   \
    F(7, text, new_tag, OPTIONAL)                                                                  \
    F(8, u32, given, REQUIRED) /* enum template_part of those below that are meant */              \
    F(9, text, description, OPTIONAL)                                                              \
    F(10, text, created_by, OPTIONAL)                                                              \
    F(11, text, content, OPTIONAL)                                                                 \
    F(12, text, comment, OPTIONAL)                                                                 \
    F(13, text, headers, OPTIONAL) /* a JSON object, or empty */                                   \
    F(14, text, mjml, OPTIONAL)

/* httpd → writer: what of the domain SES does not have yet is not to be sent. */
#define CANCEL(F)                                                                                  \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, text, by, OPTIONAL) /* who asks, for the log: a key's fingerprint, an address */

/* httpd → writer: what keeps the domain's mail from being sent now, and what will. Answered by ANSWER,
 * with a JSON object. */
#define QUEUES(F)                                                                                  \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)

/* httpd → writer: what a tag of the domain is for, or that it is not to be listed. */
#define TAG(F)                                                                                     \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, text, tag, REQUIRED) /* any case */                                                       \
    F(5, text, description, OPTIONAL)                                                              \
    F(6, bool, gone, OPTIONAL)
/* httpd → writer: what a person at the dashboard asks for. The same as the command line asks over the
 * control socket, but for CONTROL_LOGIN, _IMPORT and _KEY_…. Answered by ANSWER once committed. */
#define ASK(F)                                                                                     \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, text, control, REQUIRED) /* an encoded CONTROL */

/* courier → writer: what became of an attempt to tell an event. The first three name its row in the
 * store; one that is no longer there is passed over. */
#define POSTED(F)                                                                                  \
    F(1, text, target, REQUIRED) /* WEBHOOK_TARGET_BYTES */                                        \
    F(2, u64, due_ms, REQUIRED)                                                                    \
    F(3, text, place, REQUIRED)  /* of the event: timestamp, id */                                 \
    F(4, u32, verdict, REQUIRED) /* enum posted */                                                 \
    F(5, u32, status, OPTIONAL)  /* HTTP; 0 = there was no answer */                               \
    F(6, text, words, OPTIONAL)  /* why there was none */                                          \
    F(7, u64, at_wall_ms, REQUIRED)

/* writer → httpd. generation: of the httpd asked by; another one's answer is dropped. */
#define ANSWER(F)                                                                                  \
    F(1, u64, request_id, REQUIRED)                                                                \
    F(2, u64, generation, REQUIRED)                                                                \
    F(3, u32, verdict, REQUIRED) /* enum answer_verdict */                                         \
    F(4, text, text, OPTIONAL)   /* ACCEPT: the "id" to answer; else words for a person */         \
    F(5, u32, count, OPTIONAL)   /* ASK: as CONTROLLED's */

/* writer → sender: send these. Committed before it is pushed. */
#define LEASE(F)                                                                                   \
    F(1, u64, generation, REQUIRED) /* of the sender it was granted to; another's is dropped */    \
    F(2, u64, lease_id, REQUIRED)                                                                  \
    F(3, u32, cell, REQUIRED) /* of the sender's started marks */                                  \
    F(4, u64, batch_id, REQUIRED)                                                                  \
    F(5, u32, slice, REQUIRED) /* recipients slice × 50 … */                                    \
    F(6, u64, mask, REQUIRED)  /* bit i: recipient i of the slice is to be sent */                 \
    F(7, u32, lane, REQUIRED)                                                                      \
    F(8, u64, until_mono_ms, OPTIONAL) /* nothing of it is begun from then on; 0 = no end */

/* sender → writer: what became of some recipients of a lease. results: a packed array of [bit, enum
 * outcome, code, text, retry_ms]; text: SES's message id (SENT; empty: no call of its own) or its
 * words. code: what the reader's event tells (FAILED), enum hold_reason (HELD). */
#define OUTCOMES(F)                                                                                \
    F(1, u64, generation, REQUIRED)                                                                \
    F(2, u64, lease_id, REQUIRED)                                                                  \
    F(3, u64, batch_id, REQUIRED)                                                                  \
    F(4, u32, slice, REQUIRED)                                                                     \
    F(5, text, results, REQUIRED)                                                                  \
    F(6, bool, finished, REQUIRED) /* the lease is over; its cell may be used again */

/* poller → writer: an SES event, mapped. Released from the ring once committed: the poller compares
 * ring_tail() with the position that ring_push() gave, and deletes the message from SQS then. */
#define EVENT(F)                                                                                   \
    F(1, text, event, OPTIONAL)    /* packed struct event; empty: none for the reader (Send) */    \
    F(2, u64, batch_id, OPTIONAL)  /* from the tag; 0 = none */                                    \
    F(3, u32, recipient, OPTIONAL) /* index within the batch */                                    \
    F(4, bool, settles, REQUIRED)  /* it proves that SES has taken the recipient's mail */         \
    F(5, u32, suppress, REQUIRED)  /* enum suppression, or 0 */                                    \
    F(6, text, suppress_code, OPTIONAL)                                                            \
    F(7, text, suppress_text, OPTIONAL)                                                            \
    F(8, text, event_id, OPTIONAL)     /* EVENT_ID_BYTES; with event */                            \
    F(9, u64, ses_us, OPTIONAL)        /* struct event's ses_us; with event */                     \
    F(10, u32, bounce, OPTIONAL)       /* enum bounce */                                           \
    F(11, u64, elsewhere_id, OPTIONAL) /* the batch, not known here, whose mail SES has taken */   \
    F(12, text, claim, OPTIONAL)       /* CLAIM_BYTES, of that mail's reader */

/* poller → writer: what cannot be understood. Stored, then deleted from SQS. */
#define DEADLETTER(F)                                                                              \
    F(1, text, source, REQUIRED) /* queue URL */                                                   \
    F(2, text, why, REQUIRED)                                                                      \
    F(3, text, raw, REQUIRED)                                                                      \
    F(4, text, message_id, REQUIRED) /* SQS's, so that a redelivery is the same row */             \
    F(5, u64, wish_us, OPTIONAL)     /* a replay's: of the wish that was carried out */

/* poller → writer: this dead letter is understood now; its events stand before this record. */
#define REPLAYED(F)                                                                                \
    F(1, text, id, REQUIRED)     /* DEADLETTER_ID_BYTES */                                         \
    F(2, u64, wish_us, REQUIRED) /* of the wish that was carried out */

/* poller → writer: what became of a batch that was to go on the buffer queue. */
#define BUFFERED(F)                                                                                \
    F(1, u64, batch_id, REQUIRED)                                                                  \
    F(2, u32, verdict, REQUIRED) /* enum buffered */                                               \
    F(3, text, words, OPTIONAL)

/* poller → writer: a part of a batch from the buffer queue (mail/part.h), ours for now. A repeat
 * changes nothing. */
#define PART(F)                                                                                    \
    F(1, u64, batch_id, REQUIRED)                                                                  \
    F(2, text, domain, REQUIRED)                                                                   \
    F(3, text, head, REQUIRED) /* as in ACCEPT */                                                  \
    F(4, text, content, REQUIRED)                                                                  \
    F(5, text, slices, REQUIRED)                                                                   \
    F(6, u32, recipient_count, REQUIRED)                                                           \
    F(7, text, claims, REQUIRED)                                                                   \
    F(8, u64, due_wall_ms, REQUIRED)                                                               \
    F(9, u32, lane, REQUIRED)                                                                      \
    F(10, u32, receives, REQUIRED)      /* how often SQS has given it to somebody */               \
    F(11, u64, until_mono_ms, REQUIRED) /* as in HELD */

/* poller → writer: the queue gives this part to nobody else before then. */
#define HELD(F)                                                                                    \
    F(1, u64, batch_id, REQUIRED)                                                                  \
    F(2, u64, until_mono_ms, REQUIRED)

/* A change that other machines are to know: in the store until it is told (store/changes.h), in
 * messages of the replication topic (mail/replication.h), in REPLICA. Which fields stand: enum change_kind.
 * stamp_us and the teller's number are its version: of two changes of the same the later counts. */
#define CHANGE(F)                                                                                  \
    F(1, u32, what, REQUIRED) /* enum change_kind */                                               \
    F(2, u64, stamp_us, REQUIRED)                                                                  \
    F(3, text, domain, REQUIRED)                                                                   \
    F(4, u32, list, OPTIONAL)      /* enum suppression */                                          \
    F(5, text, entries, OPTIONAL)  /* as in SUPPRESS */                                            \
    F(6, text, address, OPTIONAL)  /* empty = all of the list */                                   \
    F(7, text, tag, OPTIONAL)      /* as in UNSUPPRESS, but never "*" */                           \
    F(8, u32, verb, OPTIONAL)      /* enum control_verb: pause, resume or cancel */                \
    F(9, text, email_id, OPTIONAL) /* of the newsletter; empty = the domain */                     \
    F(10, bool, all_lanes, OPTIONAL)                                                               \
    F(11, u64, batch_id, OPTIONAL)                                                                 \
    F(12, u32, first, OPTIONAL) /* index of the first reader within the batch */                   \
    F(13, text, head, OPTIONAL) /* as in ACCEPT */                                                 \
    F(14, text, readers,                                                                           \
      OPTIONAL) /* a packed array of [address, message id; empty = the head's] */                  \
    F(15, text, events,                                                                            \
      OPTIONAL) /* a packed array of [id, µs, packed struct event, batch id, index,
                                     lane] */               \
    F(16, text, keys, OPTIONAL)   /* sealed: store/key_seals.h */                                  \
    F(17, text, sealer, OPTIONAL) /* whose key has sealed it: SEAL_NAME_BYTES */

/* poller → writer: another machine's change, or our own that has come round. A repeat, and an older
 * one than what is known, change nothing. */
#define REPLICA(F)                                                                                 \
    F(1, u64, node, REQUIRED)    /* the teller's number */                                         \
    F(2, text, change, REQUIRED) /* an encoded CHANGE */

/* poller → writer: the topic has all changes up to this one. */
#define TOLD(F) F(1, u64, stamp_us, REQUIRED)

/* sender → writer: SES's own suppression list no longer holds this address. */
#define LIFTED(F)                                                                                  \
    F(1, text, address, REQUIRED)                                                                  \
    F(2, u64, at_us, REQUIRED) /* of the wish that was carried out */

/* postern's command line → writer, within CONTROL's records: a mail that another program gave to SES,
 * so that what SES still tells of it finds its newsletter. */
#define ELSEWHERE(F)                                                                               \
    F(1, text, ses_id, REQUIRED)                                                                   \
    F(2, text, domain, REQUIRED)     /* as configured */                                           \
    F(3, text, message_id, OPTIONAL) /* as that program answered, without brackets */              \
    F(4, text, email_id, OPTIONAL)                                                                 \
    F(5, text, tags, OPTIONAL) /* a packed array of text */                                        \
    F(6, u64, sent_us, REQUIRED)

/* postern's command line → writer, over the control socket. Answered by CONTROLLED once committed.
 */
#define CONTROL(F)                                                                                 \
    F(1, u32, verb, REQUIRED)     /* enum control_verb */                                          \
    F(2, u64, batch_id, OPTIONAL) /* 0 = the domain is meant */                                    \
    F(3, text, domain, OPTIONAL)  /* as configured, any case */                                    \
    F(4, text, ids, OPTIONAL) /* of dead letters, DEADLETTER_ID_BYTES each, of webhook failures,
                                     WEBHOOK_FAILURE_BYTES each, or of links and sessions,
                                     LOGIN_DIGEST_BYTES each */   \
    F(5, u32, all_lanes, OPTIONAL) /* CONTROL_CANCEL of a domain: not 0 = not newsletters only */  \
    F(6, text, by, OPTIONAL)       /* who asks, for the log; empty = a person at this machine */   \
    F(7, text, records, OPTIONAL)  /* CONTROL_IMPORT: a packed array of encoded EVENTs, SUPPRESSes
                                      and ELSEWHEREs */ \
    F(8, u64, late_us, OPTIONAL)   /* CONTROL_IMPORT: see store/import.h */                        \
    F(9, text, who, OPTIONAL)      /* CONTROL_LOGIN, _SESSIONS_END, _KEY_…: a person's name */   \
    F(10, u32, role, OPTIONAL)     /* CONTROL_LOGIN: enum login_role */                            \
    F(11, text, ticket, OPTIONAL)  /* CONTROL_LOGIN, _SIGN_IN: LOGIN_DIGEST_BYTES of the link's */ \
    F(12, text, session,                                                                           \
      OPTIONAL)                   /* CONTROL_SIGN_IN, _SIGN_OUT, _SESSION_SEEN: of the cookie's */ \
    F(13, text, from, OPTIONAL)   /* CONTROL_SIGN_IN, _SESSION_SEEN: the browser's address */      \
    F(14, text, digest, OPTIONAL) /* CONTROL_KEY_…: SHA-256 of the key */                        \
    F(15, text, prefix, OPTIONAL) /* CONTROL_KEY_WITHDRAW: hex digits that a digest begins with */ \
    F(16, text, label, OPTIONAL)  /* CONTROL_KEY_ADD: what it is for */                            \
    F(17, bool, sending, OPTIONAL) /* CONTROL_KEY_ADD: for sending only */                         \
    F(18, bool, force, OPTIONAL)   /* CONTROL_KEY_WITHDRAW: the last one, too */

#define CONTROLLED(F)                                                                              \
    F(1, u32, verdict, REQUIRED) /* enum answer_verdict */                                         \
    F(2, text, text, OPTIONAL)   /* words for a person; STATUS, IMPORT: a JSON object */           \
    F(3, u32, count, OPTIONAL)   /* recipients or dead letters concerned */

enum hold_reason {
    HOLD_QUOTA = 1, /* the daily quota is used up */
    HOLD_ACCOUNT,   /* SES has paused or suspended the account, or refuses our credentials */
    HOLD_SENDER,    /* identity not verified, access denied: this From of the lane */
    HOLD_CONFIGURATION_SET, /* the lane's own is missing or paused: all of the lane */
};

enum control_verb {
    CONTROL_STATUS = 1, /* what is held, paused, how fast: JSON */
    CONTROL_PAUSE,      /* a batch, or a domain's newsletters: nothing more is granted */
    CONTROL_RESUME,
    CONTROL_CANCEL, /* recipients not yet given to SES are cancelled */
    CONTROL_RESEND, /* recipients that ended as failed before SES took them are pending again */
    CONTROL_REPLAY, /* dead letters: a poller is to read them again */
    CONTROL_DROP,   /* dead letters: gone for good */
    CONTROL_WEBHOOK_REPLAY, /* events that a receiver did not take: they are told again */
    CONTROL_WEBHOOK_DROP,   /* the same: never told */
    CONTROL_IMPORT,         /* what another program has kept: store/import.h */
    CONTROL_LOGIN,          /* a link that lets a person in, once (store/logins.h) */
    CONTROL_SIGN_IN,        /* the link is used: a session begins */
    CONTROL_SIGN_OUT,       /* it ends */
    CONTROL_SESSION_SEEN,   /* somebody used it: when, and from where */
    CONTROL_SESSIONS_END,   /* somebody else ends it, or a link before its use */
    CONTROL_KEY_ADD,        /* an API key opens a domain, or all ("*"): store/key_changes.h */
    CONTROL_KEY_WITHDRAW,   /* one opens it no more; no domain: all that it opens */
};

/* Who is signed in at the dashboard may look, or also act. */
enum login_role { LOGIN_VIEWER = 1, LOGIN_OPERATOR };
enum { LOGIN_DIGEST_BYTES = 32 };

enum lane { LANE_TRANSACTIONAL, LANE_NEWSLETTER };

enum answer_verdict {
    ANSWER_OK,
    ANSWER_NOT_FOUND,
    ANSWER_FULL,      /* disk or map full: nothing was kept */
    ANSWER_REFUSED,   /* the record was not understood: nothing was kept */
    ANSWER_MORE,      /* done in part: ask again for the rest */
    ANSWER_LIMIT,     /* there are as many as there may be: nothing was kept */
    ANSWER_TOO_LARGE, /* for the buffer queue: nothing was kept */
};

enum buffered {
    BUFFERED_TAKEN,     /* SQS has all of it */
    BUFFERED_LOCAL,     /* it cannot travel: it is to be kept here */
    BUFFERED_TOO_LARGE, /* for a message */
};

enum change_kind {
    CHANGE_LISTED = 1, /* domain, list, entries */
    CHANGE_UNLISTED,   /* domain, list, address, tag */
    CHANGE_STEERED,    /* domain, verb, email_id, all_lanes */
    CHANGE_ACCEPTED,   /* domain, batch_id, first, head, readers: their `accepted` events */
    CHANGE_EVENTS,     /* domain, events: others that a Postern makes itself */
    CHANGE_KEYS,       /* domain (empty: all of them), keys, sealer: API keys added or withdrawn */
    CHANGE_END,
};

enum template_change {
    TEMPLATE_CREATE = 1, /* with its first version, where TEMPLATE_CONTENT is given */
    TEMPLATE_UPDATE,
    TEMPLATE_DELETE,
    TEMPLATE_CLEAR, /* all of the domain */
    TEMPLATE_VERSION_CREATE,
    TEMPLATE_VERSION_UPDATE,
    TEMPLATE_VERSION_DELETE,
    TEMPLATE_VERSION_COPY, /* tag to new_tag, over what is there */
};

enum template_part {
    TEMPLATE_DESCRIPTION = 1,
    TEMPLATE_CONTENT = 2,
    TEMPLATE_COMMENT = 4,
    TEMPLATE_HEADERS = 8,
    TEMPLATE_MJML = 16,
    TEMPLATE_ACTIVE = 32, /* the version becomes the active one */
};

enum webhook_change {
    WEBHOOK_ADD = 1, /* the URLs, to each of the kinds */
    WEBHOOK_REPLACE, /* the kinds' URLs, by these; where there are none yet: NOT_FOUND */
    WEBHOOK_CLEAR,   /* all URLs of the kinds */
    WEBHOOK_MOVE,    /* one URL: told these kinds and no others */
    WEBHOOK_REMOVE,  /* the URLs, from every kind */
};

enum posted {
    POSTED_TAKEN,   /* the receiver has it (2xx) */
    POSTED_REFUSED, /* it wants it no more (406) */
    POSTED_FAILED,  /* anything else: to be tried again */
    POSTED_GONE,    /* there is no such event any more */
};

enum outcome {
    OUTCOME_SENT,   /* SES answered 200; text is its message id */
    OUTCOME_FAILED, /* for good; code and text say why */
    OUTCOME_RETRY,  /* SES did not take it; may be sent again after retry_ms */
    OUTCOME_DOUBT,  /* the request was written and no answer came */
    OUTCOME_HELD,   /* SES takes nothing of this sender, lane or account for now; not sent */
};

/* What a failure says of the address. */
enum bounce {
    BOUNCE_NONE,
    BOUNCE_HARD, /* SES counts it against the account */
    BOUNCE_SOFT, /* the mailbox could not take it now; again and again means nobody is there */
};

enum suppression {
    SUPPRESS_NONE,
    SUPPRESS_BOUNCE,
    SUPPRESS_UNSUBSCRIBE,
    SUPPRESS_COMPLAINT,
    SUPPRESS_ALLOW, /* not one: what keeps an address from being put among the bounces */
};

typedef uint64_t record_u64;
typedef uint32_t record_u32;
typedef bool record_bool;
typedef struct slice record_text;

#define RECORD_MEMBER(tag, type, name, presence) record_##type name;
#define RECORD_STRUCT(lower, TABLE)                                                                \
    struct record_##lower {                                                                        \
        TABLE(RECORD_MEMBER)                                                                       \
    };                                                                                             \
    void record_##lower##_encode(struct buf *to, const struct record_##lower *r);                  \
    bool record_##lower##_decode(struct slice from, struct record_##lower *r);

RECORD_STRUCT(accept, ACCEPT)
RECORD_STRUCT(unheard, UNHEARD)
RECORD_STRUCT(seen, SEEN)
RECORD_STRUCT(unsuppress, UNSUPPRESS)
RECORD_STRUCT(suppress, SUPPRESS)
RECORD_STRUCT(answer, ANSWER)
RECORD_STRUCT(lease, LEASE)
RECORD_STRUCT(outcomes, OUTCOMES)
RECORD_STRUCT(event, EVENT)
RECORD_STRUCT(deadletter, DEADLETTER)
RECORD_STRUCT(replayed, REPLAYED)
RECORD_STRUCT(lifted, LIFTED)
RECORD_STRUCT(webhook, WEBHOOK)
RECORD_STRUCT(posted, POSTED)
RECORD_STRUCT(cancel, CANCEL)
RECORD_STRUCT(queues, QUEUES)
RECORD_STRUCT(tag, TAG)
RECORD_STRUCT(template, TEMPLATE)
RECORD_STRUCT(elsewhere, ELSEWHERE)
RECORD_STRUCT(ask, ASK)
RECORD_STRUCT(buffered, BUFFERED)
RECORD_STRUCT(part, PART)
RECORD_STRUCT(held, HELD)
RECORD_STRUCT(change, CHANGE)
RECORD_STRUCT(replica, REPLICA)
RECORD_STRUCT(told, TOLD)
RECORD_STRUCT(control, CONTROL)
RECORD_STRUCT(controlled, CONTROLLED)

/* The kind of an encoded record; 0 when it is none of ours. */
enum record_kind record_kind_of(struct slice from);

#endif
