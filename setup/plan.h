/*
 * setup/plan.h - from what is wanted and what was found to what is to be done.
 *
 * THE RULE of whose a resource is. It is ours if it has the tag (setup/plumbing.h); subscriptions
 * and event destinations are as their topic and configuration set are.
 *   not there                        is created
 *   as it is wanted                  is left as it is and used, whoever made it
 *   another way, ours                is changed
 *   given (of a node's plumbing)     has to be there; is left as it is
 *   another way, not ours            is TAKEN: nothing at all is done until it is renamed, removed,
 *                                    named otherwise (--topic …), or handed over (--adopt)
 * The domain's identity is the domain's, whoever made it: what it lacks is added (a MAIL FROM domain
 * where there is none, DKIM where it is off), what it has otherwise is left.
 * What a resource has beyond what is wanted (further subscribers, event destinations, attributes) is
 * never touched.
 *
 * SHAPE   Pure functions of the plumbing with its trees.
 */
#ifndef SETUP_PLAN_H
#define SETUP_PLAN_H

#include "setup/plumbing.h"

struct plan_wishes {
    bool adopt;           /* what is another way and not ours becomes ours */
    bool mail_from_given; /* on the command line: an identity's other one is changed */
};

struct plan_sums {
    size_t exists, create, change, taken, lacked;
};

/* Fills in state and differs of every resource, which were looked for: found is NULL where there is
 * none. */
struct plan_sums plan_judge(struct plumbing *p, const struct plan_wishes *wishes);

/* Has the tag, or belongs to what has it: a subscription to a topic that is given, to its queue. */
bool plan_is_ours(const struct resource *r);

#define PLAN_TAG "tag" /* the member that is changed where a resource is handed over */

/* Whether the resource differs in this member. */
bool plan_changes(const struct resource *r, const char *member);

/* Puts the parts of a topic's and a set's tree where they belong: each subscription's and event
 * destination's found. */
void plan_share_out(struct plumbing *p);

/* "create", "exists", … */
const char *plan_state_name(enum resource_state state);

#endif
