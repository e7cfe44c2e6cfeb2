/*
 * setup/inspect.h - what there is in AWS now, read: queues, topics, configuration sets, identities,
 * users, as trees under AWS's own names.
 *
 * SHAPE   Everything that AWS answers is kept as it came; what it writes in another way than JSON is
 *         made the same: attributes and tags are objects of strings, whatever protocol they came by.
 * ENDS    A process of its own (aws/session.h): every function blocks.
 * MEMORY  On INSPECT_FOUND *found is a new tree, the caller's: json_free(). Else it is NULL.
 * ERRORS  INSPECT_FAILED fills *err: no answer, not allowed (which permission), refused.
 * SOURCE  spec/aws.md §5, §8, §9; the API references of STS and IAM.
 */
#ifndef SETUP_INSPECT_H
#define SETUP_INSPECT_H

#include "aws/session.h"
#include "base/json.h"

enum inspect_result { INSPECT_FAILED = -1, INSPECT_ABSENT, INSPECT_FOUND };

/* {"Account":"111122223333","Arn":"arn:aws:sts::…","UserId":"…"}: whose credentials these are.
 * Needs no permission. */
enum inspect_result inspect_caller(struct session *s, cJSON **found, struct err *err);

/* SES GetAccount's answer: aws/ses.h reads quota and state from it. */
enum inspect_result inspect_account(struct session *s, cJSON **found, struct err *err);

/* {"QueueUrl":"https://…","Attributes":{"QueueArn":"…","ApproximateNumberOfMessages":"12",
 * "Policy":"{…}",…}}. By name, in the session's region; or by URL, in the region that it names. */
enum inspect_result inspect_queue(struct session *s, const char *name, cJSON **found,
                                  struct err *err);
enum inspect_result inspect_queue_at(struct session *s, struct slice url, cJSON **found,
                                     struct err *err);

/* {"TopicArn":"…","Attributes":{"Policy":"{…}",…},"Subscriptions":[{"SubscriptionArn":"…",
 * "Protocol":"sqs","Endpoint":"arn:aws:sqs:…","Attributes":{"RawMessageDelivery":"true",…}}]}; of
 * all subscriptions, the Attributes of those to queues alone. */
enum inspect_result inspect_topic(struct session *s, const char *arn, cJSON **found,
                                  struct err *err);

/* GetConfigurationSet's answer, and "EventDestinations":[{"Name":"…","Enabled":true,
 * "MatchingEventTypes":[…],"SnsDestination":{"TopicArn":"…"}}]. What AWS leaves out because it is as
 * it always is, SendingOptions.SendingEnabled, is there. "Tags" is an object. */
enum inspect_result inspect_configuration_set(struct session *s, const char *name, cJSON **found,
                                              struct err *err);

/* GetEmailIdentity's answer; "Tags" is an object. */
enum inspect_result inspect_email_identity(struct session *s, const char *identity, cJSON **found,
                                           struct err *err);

/* {"UserName":"…","Arn":"…","Tags":{…},"Policies":{"NAME":"{…}"},"AccessKeys":[{"AccessKeyId":"AKIA…",
 * "Status":"Active"}]}; of the inline policies only the one that is named. */
enum inspect_result inspect_user(struct session *s, const char *name, const char *policy,
                                 cJSON **found, struct err *err);

/* Adds "Tags":{…} to what inspect_queue() or inspect_topic() found. -1: *err. A server that knows no
 * tags leaves it without. */
int inspect_queue_tags(struct session *s, cJSON *queue, struct err *err);
int inspect_topic_tags(struct session *s, cJSON *topic, struct err *err);

#endif
