/*
 * setup/plumbing.h - what Postern needs in AWS, as it ought to be: the wanted state.
 *
 *   SES identity of the domain        Easy DKIM, a MAIL FROM domain of its own
 *   configuration set ─ event destination ─ topic ─ subscription ─ queue ─ dead-letter queue
 *                                     once for newsletters, once for system mail
 *   buffer queue                      FIFO, only if machines are to share newsletters
 *   IAM user                          only if it is asked for: a role is better
 *
 * NODES   With names.node it is a further machine's part alone: event queues whose names end in the
 *         node's, with their dead-letter queues, subscribed to the same topics. Topics and buffer are
 *         looked at then (is_given), and neither made nor changed nor removed.
 * SHAPE   A list of resources in the order in which they are made, each with its wanted state as a
 *         tree under the names that AWS's answers have (setup/inspect.h): so what is there is
 *         compared member by member (setup/difference.h), and doctor reads the same trees.
 *         Pure: nothing here asks AWS.
 * MARK    Everything that can have tags gets the tag PLUMBING_TAG. What has it is ours: changed
 *         without a question of whose it is, and removed by --remove. Subscriptions and event
 *         destinations have no tags: they are as their topic and configuration set are.
 * MEMORY  plumbing_make()/plumbing_fini(). Texts live as long as it.
 * UNITS   Seconds, as SQS has them.
 * SOURCE  spec/aws.md §5, §8, §9, §10.
 */
#ifndef SETUP_PLUMBING_H
#define SETUP_PLUMBING_H

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

#define PLUMBING_TAG         "postern"
#define PLUMBING_TAG_VALUE   "setup"
#define PLUMBING_DESTINATION "postern-events" /* name of the event destinations */
#define PLUMBING_POLICY      "postern"        /* of the user's inline policy */

enum {
    PLUMBING_VISIBILITY_S = 120,
    PLUMBING_RETENTION_S = 10 * 86400, /* SQS keeps at most 14 days … */
    /* … and a dead letter keeps the age it came with, so there it is all of them. */
    PLUMBING_DEAD_RETENTION_S = 14 * 86400,
    /* Accepted mail waits there: as long as SQS keeps anything. */
    PLUMBING_BUFFER_RETENTION_S = 14 * 86400,
    PLUMBING_RECEIVES = 10, /* then a message is a dead letter */
    PLUMBING_RESOURCES_MAX = 16,
    PLUMBING_CHANGES_MAX = 8,
    PLUMBING_USER_POLICY_MAX_BYTES = 2048, /* IAM's quota of a user's inline policies */
};

/* Two of these are the same line of pipes, with other names. */
enum plumbing_line { LINE_NEWSLETTER, LINE_SYSTEM, PLUMBING_LINES };

struct plumbing_names {
    const char *domain;
    const char *mail_from; /* "" = none; NULL = bounce.DOMAIN */
    const char *set[PLUMBING_LINES], *topic[PLUMBING_LINES], *queue[PLUMBING_LINES];
    const char *buffer_queue; /* "" = none; ".fifo" is added where it lacks */
    const char *node;         /* "" = the whole plumbing; else that machine's event queues alone */
    const char *user;         /* "" = none; none of a node's */
    bool wrapped;             /* subscriptions wrap, and so carry SNS's signature */
    bool track_system_mail;   /* opens and clicks of it, too */
    /* Addresses and domains that may stand in From, for the run-time policy: the domain, and those
     * of proxy.conf. */
    const char *const *senders;
    size_t sender_count;
};

#define PLUMBING_FIFO ".fifo" /* how names of FIFO queues end, and of no others */

/* The names of a Postern without wishes of its own; domain is the caller's. */
void plumbing_names_default(struct plumbing_names *names);

enum resource_kind {
    RESOURCE_QUEUE,
    RESOURCE_TOPIC,
    RESOURCE_SUBSCRIPTION,
    RESOURCE_SET,
    RESOURCE_DESTINATION,
    RESOURCE_IDENTITY,
    RESOURCE_USER,
};

enum resource_state {
    RESOURCE_UNKNOWN, /* not looked for yet */
    RESOURCE_EXISTS,  /* as it is wanted */
    RESOURCE_CREATE,
    RESOURCE_CHANGE,
    RESOURCE_TAKEN,  /* not as it is wanted, and not ours */
    RESOURCE_LACKED, /* given, and not there */
};

struct resource {
    enum resource_kind kind;
    const char *name;     /* the name in AWS; of a subscription the queue's */
    const char *arn;      /* "" where AWS makes it up */
    cJSON *wanted;        /* what found must have, member by member */
    struct resource *of;  /* the topic of a subscription, the set of a destination; else NULL */
    struct resource *dlq; /* of a queue: where its dead letters go; NULL = it has none */
    bool is_dlq;          /* it is one */
    bool is_given;        /* has to be there, and is not ours to make, change or remove now */
    struct resource *to;  /* of a subscription: its queue */
    enum plumbing_line line;

    cJSON *found; /* NULL = there is none; as setup/inspect.h gives it */
    enum resource_state state;
    /* What differs: for people ("VisibilityTimeout 30 → 120; …"), and the names of the members (of
     * wanted, or static), NULL behind the last. */
    struct buf differs;
    const char *changes[PLUMBING_CHANGES_MAX + 1];
};

struct plumbing {
    struct arena arena;
    struct plumbing_names names;
    const char *region, *account, *partition;
    const char *mail_from; /* "" = none */
    struct resource resources[PLUMBING_RESOURCES_MAX];
    size_t count;
    struct resource *topic[PLUMBING_LINES], *queue[PLUMBING_LINES];
    struct resource *set[PLUMBING_LINES];      /* NULL = none: of a node's */
    struct resource *buffer, *identity, *user; /* NULL = none */
    bool is_of_node;
};

/* Copies the texts. account: 12 digits, or a placeholder where it is not known (templates, policies
 * to print). -1: a name that AWS does not take, said in *err. */
int plumbing_make(struct plumbing *p, const struct plumbing_names *names, const char *region,
                  const char *account, struct err *err);
void plumbing_fini(struct plumbing *p);

/* What stands behind the last slash; empty = there is none. */
struct slice plumbing_queue_name(const char *url);
/* The node that queues of these URLs, in the order of lines, belong to: what follows the line's own
 * name and "-" in both. Empty = none. */
struct slice plumbing_node_of(const struct plumbing_names *names,
                              const char *const queue_url[PLUMBING_LINES]);

/* "queue", "dead-letter queue", … */
const char *plumbing_kind(const struct resource *r);
/* How a person calls it: "newsletter-events-queue", "topic → queue". */
void plumbing_put_name(struct buf *to, const struct resource *r);

/* "aws", "aws-cn", "aws-us-gov", "aws-eusc" */
const char *plumbing_partition(struct slice region);

/* The types that an event destination of this line publishes, NULL behind the last. */
const char *const *plumbing_event_types(const struct plumbing_names *names,
                                        enum plumbing_line line);

#endif
