/*
 * Configuration sets and their event destinations: what SES v2 keeps of them, and which topics an
 * event goes to.
 *
 * An event is published to every enabled destination whose types name it, and to no other. SES tries
 * the topic when a destination is made or changed: one that cannot be published to is refused.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sandbox/cloud.h"

enum { NAME_CHARS_MAX = 64, DESTINATIONS_MAX = 10, TYPES = 10 };

struct destination {
    struct destination *next;
    char *name, *topic_arn;
    bool enabled;
    bool types[TYPES];
};

struct config_set {
    struct config_set *next;
    char *name, *arn;
    cJSON *options; /* DeliveryOptions, SendingOptions, … as given */
    struct destination *destinations;
};

struct cloud_sets {
    struct cloud *cloud;
    struct config_set *sets;
};

/* In events; in destinations. */
static const struct {
    const char *event, *destination;
} types[TYPES] = {
    {"Send", "SEND"},
    {"Reject", "REJECT"},
    {"Bounce", "BOUNCE"},
    {"Complaint", "COMPLAINT"},
    {"Delivery", "DELIVERY"},
    {"Open", "OPEN"},
    {"Click", "CLICK"},
    {"Rendering Failure", "RENDERING_FAILURE"},
    {"DeliveryDelay", "DELIVERY_DELAY"},
    {"Subscription", "SUBSCRIPTION"},
};

/* -------- sets -------- */

static struct config_set **set_at(struct cloud_sets *s, struct slice name)
{
    struct config_set **at = &s->sets;

    while (*at != NULL && !slice_eq(slice_str((*at)->name), name))
        at = &(*at)->next;
    return at;
}

static char *copy_of(struct slice text)
{
    char *copy = mem_alloc(text.len + 1);

    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return copy;
}

static struct config_set *set_make(struct cloud_sets *s, struct slice name)
{
    struct config_set *set = mem_zero(1, sizeof *set);
    struct buf arn = {0};

    buf_printf(&arn, "arn:aws:ses:%s:%s:configuration-set/%.*s", s->cloud->region,
               s->cloud->account, SLICE_ARGS(name));
    set->name = copy_of(name);
    set->arn = mem_strdup(buf_cstr(&arn));
    set->options = cJSON_CreateObject();
    set->next = s->sets;
    s->sets = set;
    buf_fini(&arn);
    return set;
}

static void destination_free(struct destination *d)
{
    free(d->name);
    free(d->topic_arn);
    free(d);
}

static void set_free(struct config_set *set)
{
    while (set->destinations != NULL) {
        struct destination *gone = set->destinations;
        set->destinations = gone->next;
        destination_free(gone);
    }
    free(set->name);
    free(set->arn);
    cJSON_Delete(set->options);
    free(set);
}

void cloud_sets_make(struct cloud_sets *s, const char *name, const char *topic_arn)
{
    struct config_set *set = set_make(s, slice_str(name));
    struct destination *d = mem_zero(1, sizeof *d);

    d->name = mem_strdup("events");
    d->topic_arn = mem_strdup(topic_arn);
    d->enabled = true;
    for (size_t i = 0; i < TYPES; i++)
        d->types[i] = true;
    set->destinations = d;
}

enum cloud_set_state cloud_sets_state(struct cloud_sets *s, struct slice name)
{
    const struct config_set *set = *set_at(s, name);

    if (set == NULL)
        return CLOUD_SET_ABSENT;
    return json_get_bool(json_get(set->options, "SendingOptions"), "SendingEnabled", true)
               ? CLOUD_SET_SENDS
               : CLOUD_SET_PAUSED;
}

void cloud_sets_publish(struct cloud_sets *s, struct slice name, const char *event_type,
                        struct slice message, const char *subject)
{
    const struct config_set *set = *set_at(s, name);
    size_t type = 0;

    while (type < TYPES && strcmp(types[type].event, event_type) != 0)
        type++;
    if (set == NULL || type == TYPES)
        return;
    for (const struct destination *d = set->destinations; d != NULL; d = d->next)
        if (d->enabled && d->types[type])
            (void)cloud_sns_publish(s->cloud->sns, slice_str(d->topic_arn), "ses.amazonaws.com",
                                    slice_str(set->arn), message, subject);
}

/* -------- calls -------- */

static void not_found(struct cloud_request *r, const char *what, const char *name)
{
    struct buf words = {0};

    buf_printf(&words, "%s <%s> does not exist.", what, name);
    cloud_ses_error(r->http, 404, "NotFoundException", buf_cstr(&words));
    buf_fini(&words);
}

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return name.len > 0 && name.len <= NAME_CHARS_MAX;
}

static const char *const option_names[][2] = {
    {"sending", "SendingOptions"},
    {"delivery-options", "DeliveryOptions"},
    {"reputation-options", "ReputationOptions"},
    {"suppression-options", "SuppressionOptions"},
    {"tracking-options", "TrackingOptions"},
    {"vdm-options", "VdmOptions"},
};

enum { OPTION_NAMES = sizeof option_names / sizeof option_names[0] };

static void create_set(struct cloud_request *r, cJSON *in)
{
    struct slice name = json_get_text(in, "ConfigurationSetName");
    struct buf words = {0};

    if (!is_name(name)) {
        cloud_ses_error(r->http, 400, "BadRequestException", "Invalid configuration set name.");
    } else if (*set_at(r->cloud->sets, name) != NULL) {
        buf_printf(&words, "Configuration set <%.*s> already exists.", SLICE_ARGS(name));
        cloud_ses_error(r->http, 400, "AlreadyExistsException", buf_cstr(&words));
        buf_fini(&words);
    } else {
        struct config_set *set = set_make(r->cloud->sets, name);
        for (size_t i = 0; i < OPTION_NAMES; i++)
            if (json_get(in, option_names[i][1]) != NULL)
                (void)cJSON_AddItemToObject(
                    set->options, option_names[i][1],
                    cJSON_DetachItemFromObjectCaseSensitive(in, option_names[i][1]));
        if (json_get(in, "Tags") != NULL)
            (void)cJSON_AddItemToObject(set->options, "Tags",
                                        cJSON_DetachItemFromObjectCaseSensitive(in, "Tags"));
        cloud_ses_answer(r->http, SLICE("{}"));
    }
}

static void list_sets(struct cloud_request *r)
{
    struct buf json = {0};

    buf_add_str(&json, "{\"ConfigurationSets\":[");
    for (const struct config_set *set = r->cloud->sets->sets; set != NULL; set = set->next) {
        if (json.ptr[json.len - 1] != '[')
            buf_add_byte(&json, ',');
        json_put_text(&json, slice_str(set->name));
    }
    buf_add_str(&json, "]}");
    cloud_ses_answer(r->http, buf_slice(&json));
    buf_fini(&json);
}

static void get_set(struct cloud_request *r, const struct config_set *set)
{
    struct buf json = {0};

    buf_add_byte(&json, '{');
    json_put_str(&json, "ConfigurationSetName", slice_str(set->name));
    if (json_get(set->options, "SendingOptions") == NULL)
        buf_add_str(&json, ",\"SendingOptions\":{\"SendingEnabled\":true}");
    for (const cJSON *o = json_first(set->options); o != NULL; o = o->next) {
        json_put_name(&json, o->string);
        json_put_tree(&json, o);
    }
    buf_add_byte(&json, '}');
    cloud_ses_answer(r->http, buf_slice(&json));
    buf_fini(&json);
}

static void delete_set(struct cloud_request *r, struct config_set *set)
{
    *set_at(r->cloud->sets, slice_str(set->name)) = set->next;
    set_free(set);
    cloud_ses_answer(r->http, SLICE("{}"));
}

/* The members of PUT …/x-options replace the set's XOptions. */
static void put_options(struct cloud_request *r, struct config_set *set, const char *what,
                        cJSON **in)
{
    for (size_t i = 0; i < OPTION_NAMES; i++) {
        if (strcmp(option_names[i][0], what) != 0)
            continue;
        cJSON_DeleteItemFromObjectCaseSensitive(set->options, option_names[i][1]);
        (void)cJSON_AddItemToObject(set->options, option_names[i][1], *in);
        *in = NULL;
        cloud_ses_answer(r->http, SLICE("{}"));
        return;
    }
    cloud_ses_error(r->http, 404, "NotFoundException", "The sandbox does not know these options.");
}

/* -------- event destinations -------- */

bool cloud_sets_tag(struct cloud_sets *s, struct slice name, const cJSON *tags)
{
    struct config_set *set = *set_at(s, name);

    if (set == NULL)
        return false;
    if (json_get(set->options, "Tags") == NULL)
        (void)cJSON_AddArrayToObject(set->options, "Tags");
    cloud_ses_merge_tags(cJSON_GetObjectItemCaseSensitive(set->options, "Tags"), tags);
    return true;
}

static struct destination **destination_at(struct config_set *set, const char *name)
{
    struct destination **at = &set->destinations;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

/* From "EventDestination": {…}. NULL after a refusal. */
static struct destination *read_destination(struct cloud_request *r, const struct config_set *set,
                                            const cJSON *in, struct slice name)
{
    struct slice topic = json_get_text(json_get(in, "SnsDestination"), "TopicArn");
    struct destination *d = mem_zero(1, sizeof *d);
    struct buf words = {0};

    d->name = copy_of(name);
    d->topic_arn = copy_of(topic);
    d->enabled = json_get_bool(in, "Enabled", false);
    for (const cJSON *t = json_first(json_get(in, "MatchingEventTypes"));
         t != NULL && words.len == 0; t = t->next) {
        size_t at = 0;
        while (at < TYPES && !slice_eq(slice_str(types[at].destination), json_text(t)))
            at++;
        if (at < TYPES)
            d->types[at] = true;
        else
            buf_printf(&words, "Unknown event type <%.*s>.", SLICE_ARGS(json_text(t)));
    }
    if (json_first(json_get(in, "MatchingEventTypes")) == NULL)
        buf_add_str(&words, "MatchingEventTypes must not be empty.");
    else if (!is_name(name))
        buf_add_str(&words, "Invalid event destination name.");
    else if (topic.len == 0)
        buf_add_str(&words, "Exactly one destination is required: only SnsDestination here.");
    else if (words.len == 0 &&
             !cloud_sns_publish(
                 r->cloud->sns, topic, "ses.amazonaws.com", slice_str(set->arn),
                 SLICE("Successfully validated SNS topic for Amazon SES event publishing."), NULL))
        buf_printf(&words,
                   "Could not publish to SNS topic <%.*s>: it does not exist, or its policy "
                   "does not let SES publish.",
                   SLICE_ARGS(topic));
    if (words.len == 0)
        return d;
    cloud_ses_error(r->http, 400, "BadRequestException", buf_cstr(&words));
    buf_fini(&words);
    destination_free(d);
    return NULL;
}

static void create_destination(struct cloud_request *r, struct config_set *set, const cJSON *in)
{
    struct slice name = json_get_text(in, "EventDestinationName");
    char *copy = copy_of(name);
    struct destination **at = destination_at(set, copy);
    struct buf words = {0};
    size_t count = 0;

    for (const struct destination *d = set->destinations; d != NULL; d = d->next)
        count++;
    if (*at != NULL) {
        buf_printf(&words, "Event destination <%s> already exists.", copy);
        cloud_ses_error(r->http, 400, "AlreadyExistsException", buf_cstr(&words));
    } else if (count == DESTINATIONS_MAX) {
        cloud_ses_error(r->http, 400, "LimitExceededException", "Ten event destinations at most.");
    } else {
        *at = read_destination(r, set, json_get(in, "EventDestination"), name);
        if (*at != NULL)
            cloud_ses_answer(r->http, SLICE("{}"));
    }
    buf_fini(&words);
    free(copy);
}

static void get_destinations(struct cloud_request *r, const struct config_set *set)
{
    struct buf json = {0};

    buf_add_str(&json, "{\"EventDestinations\":[");
    for (const struct destination *d = set->destinations; d != NULL; d = d->next) {
        buf_add_str(&json, d == set->destinations ? "{" : ",{");
        json_put_str(&json, "Name", slice_str(d->name));
        json_put_bool(&json, "Enabled", d->enabled);
        json_put_name(&json, "MatchingEventTypes");
        buf_add_byte(&json, '[');
        for (size_t i = 0; i < TYPES; i++) {
            if (!d->types[i])
                continue;
            if (json.ptr[json.len - 1] != '[')
                buf_add_byte(&json, ',');
            json_put_text(&json, slice_str(types[i].destination));
        }
        buf_add_str(&json, "],\"SnsDestination\":{");
        json_put_str(&json, "TopicArn", slice_str(d->topic_arn));
        buf_add_str(&json, "}}");
    }
    buf_add_str(&json, "]}");
    cloud_ses_answer(r->http, buf_slice(&json));
    buf_fini(&json);
}

static void change_destination(struct cloud_request *r, struct config_set *set, const char *name,
                               const cJSON *in)
{
    struct destination **at = destination_at(set, name), *old = *at, *new;

    if (old == NULL) {
        not_found(r, "Event destination", name);
        return;
    }
    if (strcmp(r->method, "DELETE") == 0) {
        *at = old->next;
    } else {
        new = read_destination(r, set, json_get(in, "EventDestination"), slice_str(name));
        if (new == NULL)
            return;
        new->next = old->next;
        *at = new;
    }
    destination_free(old);
    cloud_ses_answer(r->http, SLICE("{}"));
}

void cloud_sets_handle(struct cloud_request *r, const char *name, const char *what,
                       const char *destination)
{
    struct config_set *set = *set_at(r->cloud->sets, slice_str(name));
    bool get = strcmp(r->method, "GET") == 0;
    cJSON *in = json_parse(r->body);

    if (name[0] == '\0' && get)
        list_sets(r);
    else if (name[0] == '\0')
        create_set(r, in);
    else if (set == NULL)
        not_found(r, "Configuration set", name);
    else if (what[0] == '\0' && get)
        get_set(r, set);
    else if (what[0] == '\0')
        delete_set(r, set);
    else if (strcmp(what, "event-destinations") != 0)
        put_options(r, set, what, &in);
    else if (destination[0] != '\0')
        change_destination(r, set, destination, in);
    else if (get)
        get_destinations(r, set);
    else
        create_destination(r, set, in);
    json_free(in);
}

struct cloud_sets *cloud_sets_create(struct cloud *c)
{
    struct cloud_sets *s = mem_zero(1, sizeof *s);

    s->cloud = c;
    return s;
}

void cloud_sets_destroy(struct cloud_sets *s)
{
    while (s->sets != NULL) {
        struct config_set *gone = s->sets;
        s->sets = gone->next;
        set_free(gone);
    }
    free(s);
}
