/*
 * doctor/patient.h - what doctor looks at: the configuration, the way of its mail through AWS as it
 * is now, and the Postern of that configuration, if it runs.
 *
 * SHAPE   A way is one configuration set with what hangs on it: topic, subscription, and which of
 *         the queues that Postern reads it ends in. Nothing here judges.
 * ENDS    A process of its own: it blocks. Nothing is changed, at AWS or here.
 * MEMORY  patient_init() borrows the configuration; patient_fini() frees what was found.
 * ERRORS  Each part that is looked for has its own result and words.
 * SOURCE  spec/aws.md §5, §8, §9.
 */
#ifndef DOCTOR_PATIENT_H
#define DOCTOR_PATIENT_H

#include "base/arena.h"
#include "base/config.h"
#include "setup/inspect.h"
#include "store/store.h"

enum { PATIENT_DENIED_MAX = 64 };

/* One thing that was asked for. INSPECT_FAILED until it was: err says why. */
struct seen {
    enum inspect_result result;
    cJSON *tree;
    struct err err;
};

struct patient_queue {
    struct slice url;
    const char *name, *arn;
    struct seen queue, dead;
};

struct patient_way {
    const char *set, *set_arn;
    bool is_newsletter;                 /* its opens and clicks are to be seen */
    const struct config_domain *domain; /* the first that uses it */
    struct seen found, topic;
    const char *topic_arn;     /* "" = the set has no destination to one */
    const cJSON *subscription; /* to one of the queues; NULL = none */
    size_t queue;              /* its index; where there is none, the count */
};

struct patient_domain {
    const struct config_domain *config;
    const char *identity; /* the name under which SES knows it: its own, or one above */
    struct seen found;
};

struct patient {
    const struct config *config;
    struct arena arena;
    struct session *session; /* NULL: err says why */
    struct err session_err;
    const char *region, *account, *partition;
    struct seen caller, ses_account;
    struct patient_domain *domains;
    struct patient_way *ways;
    struct patient_queue *queues;
    struct patient_queue buffer; /* without a URL: there is none */
    size_t domain_count, way_count, queue_count;
    /* What is not allowed: "sqs:ReceiveMessage on newsletter-events-queue". */
    const char *denied[PATIENT_DENIED_MAX];
    size_t denied_count;
    bool denied_needed; /* one of them is needed for mail to flow */
    /* The running Postern */
    cJSON *status; /* NULL: status_err says why; ERR_NOT_FOUND: none runs */
    struct err status_err;
    struct store *store;
    struct err store_err;
};

void patient_init(struct patient *p, const struct config *config);
void patient_fini(struct patient *p);

/* The running Postern and its store. */
void patient_ask_postern(struct patient *p);
/* Credentials, and whose they are: false when there are none that AWS takes. */
bool patient_log_in(struct patient *p);
/* All there is in AWS, and what is allowed: every call is one that changes nothing. */
void patient_look(struct patient *p);

/* A queue as it is at this moment; the one seen before is forgotten. */
void patient_look_at_queue(struct patient *p, struct patient_queue *q);

#endif
