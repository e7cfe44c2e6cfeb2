/*
 * SES v2's identities: domains and addresses, their DKIM tokens, their MAIL FROM, and whether mail
 * may go out in their name.
 *
 * A new identity is pending, as at AWS before its DNS records are found. What DNS would say is set
 * by POST /_sandbox/identity.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "sandbox/cloud.h"

enum { TOKENS = 3, TOKEN_CHARS = 32 };

struct identity {
    struct identity *next;
    char *name;
    bool is_domain, dkim_enabled, forwards_feedback;
    char tokens[TOKENS][TOKEN_CHARS + 1];
    const char *verification, *dkim, *mail_from_status; /* PENDING, SUCCESS, … */
    char *mail_from, *configuration_set;                /* NULL = none */
    const char *on_mx_failure;
    cJSON *tags;
};

struct cloud_identities {
    struct cloud *cloud;
    struct identity *identities;
};

static struct identity **identity_at(struct cloud_identities *s, struct slice name)
{
    struct identity **at = &s->identities;

    while (*at != NULL && !slice_eq_nocase(slice_str((*at)->name), name))
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

static struct identity *identity_make(struct cloud_identities *s, struct slice name)
{
    struct identity *i = mem_zero(1, sizeof *i);

    i->name = copy_of(name);
    i->is_domain = slice_find_byte(name, '@') == SIZE_MAX;
    i->dkim_enabled = i->is_domain;
    i->forwards_feedback = true;
    i->verification = "PENDING";
    i->dkim = i->is_domain ? "PENDING" : "NOT_STARTED";
    i->mail_from_status = "PENDING";
    i->on_mx_failure = "USE_DEFAULT_VALUE";
    for (size_t t = 0; t < TOKENS; t++) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
        uint8_t random[TOKEN_CHARS];
        digest_random(random, sizeof random);
        for (size_t at = 0; at < TOKEN_CHARS; at++)
            i->tokens[t][at] = letters[random[at] % 32];
    }
    i->next = s->identities;
    s->identities = i;
    return i;
}

static void identity_free(struct identity *i)
{
    free(i->name);
    free(i->mail_from);
    free(i->configuration_set);
    cJSON_Delete(i->tags);
    free(i);
}

static bool is_verified(const struct identity *i)
{
    return i != NULL && strcmp(i->verification, "SUCCESS") == 0;
}

/* -------- who may send, and to whom -------- */

/* The address itself, its domain, or a parent domain; the most particular one that exists. */
static const struct identity *identity_for(struct cloud_identities *s, struct slice address)
{
    const struct identity *i = *identity_at(s, address);
    size_t at = slice_rfind_byte(address, '@'), dot;
    struct slice domain = slice_from(address, at == SIZE_MAX ? 0 : at + 1);

    while (i == NULL && (dot = slice_find_byte(domain, '.')) != SIZE_MAX) {
        i = *identity_at(s, domain);
        domain = slice_from(domain, dot + 1);
    }
    return i;
}

bool cloud_identities_allow(struct cloud_identities *s, struct slice from,
                            const struct slice *recipients, size_t count, const char **code,
                            char words[CLOUD_WORDS_BYTES])
{
    const struct cloud_options *o = &s->cloud->options;
    const struct identity *sender = identity_for(s, from);
    struct buf failed = {0};

    if (sender != NULL ? !is_verified(sender) : !o->any_sender)
        buf_add_slice(&failed, from);
    for (size_t i = 0; i < count && !o->production_access; i++) {
        size_t at = slice_rfind_byte(recipients[i], '@');
        if (slice_eq_nocase(slice_from(recipients[i], at + 1), SLICE("simulator.amazonses.com")) ||
            is_verified(identity_for(s, recipients[i])))
            continue;
        if (failed.len > 0)
            buf_add_str(&failed, ", ");
        buf_add_slice(&failed, recipients[i]);
    }
    if (failed.len > 0) {
        *code = "MessageRejected";
        (void)snprintf(words, CLOUD_WORDS_BYTES,
                       "Email address is not verified. The following identities failed the check "
                       "in region %s: %s",
                       s->cloud->region, buf_cstr(&failed));
        buf_fini(&failed);
        return false;
    }
    if (sender != NULL && sender->mail_from != NULL &&
        strcmp(sender->mail_from_status, "SUCCESS") != 0 &&
        strcmp(sender->on_mx_failure, "REJECT_MESSAGE") == 0) {
        *code = "MailFromDomainNotVerifiedException";
        (void)snprintf(words, CLOUD_WORDS_BYTES, "MAIL FROM domain %s is not verified.",
                       sender->mail_from);
        return false;
    }
    return true;
}

/* -------- calls -------- */

static void put_dkim(struct buf *json, const struct identity *i)
{
    json_put_name(json, "DkimAttributes");
    buf_add_byte(json, '{');
    json_put_bool(json, "SigningEnabled", i->dkim_enabled);
    json_put_str(json, "Status", slice_str(i->dkim));
    if (i->is_domain) {
        json_put_name(json, "Tokens");
        for (size_t t = 0; t < TOKENS; t++)
            buf_printf(json, "%s\"%s\"", t == 0 ? "[" : ",", i->tokens[t]);
        buf_add_byte(json, ']');
        json_put_str(json, "SigningHostedZone", SLICE("dkim.amazonses.com"));
        json_put_str(json, "SigningAttributesOrigin", SLICE("AWS_SES"));
        json_put_str(json, "NextSigningKeyLength", SLICE("RSA_2048_BIT"));
        json_put_str(json, "CurrentSigningKeyLength", SLICE("RSA_2048_BIT"));
    }
    buf_add_byte(json, '}');
}

static void put_summary(struct buf *json, const struct identity *i)
{
    json_put_str(json, "IdentityType", i->is_domain ? SLICE("DOMAIN") : SLICE("EMAIL_ADDRESS"));
    json_put_bool(json, "VerifiedForSendingStatus", is_verified(i));
}

static void create_identity(struct cloud_request *r, cJSON *in)
{
    struct slice name = json_get_text(in, "EmailIdentity");
    struct slice set = json_get_text(in, "ConfigurationSetName");
    struct buf text = {0};

    if (name.len == 0 || slice_find_byte(name, '.') == SIZE_MAX || !slice_is_ascii(name)) {
        cloud_ses_error(r->http, 400, "BadRequestException", "Invalid email identity.");
    } else if (*identity_at(r->cloud->identities, name) != NULL) {
        buf_printf(&text, "Email identity %.*s already exist.", SLICE_ARGS(name));
        cloud_ses_error(r->http, 400, "AlreadyExistsException", buf_cstr(&text));
    } else if (set.len > 0 && cloud_sets_state(r->cloud->sets, set) == CLOUD_SET_ABSENT) {
        buf_printf(&text, "Configuration set <%.*s> does not exist.", SLICE_ARGS(set));
        cloud_ses_error(r->http, 404, "NotFoundException", buf_cstr(&text));
    } else {
        struct identity *i = identity_make(r->cloud->identities, name);
        if (set.len > 0)
            i->configuration_set = copy_of(set);
        i->tags = cJSON_DetachItemFromObjectCaseSensitive(in, "Tags");
        buf_add_byte(&text, '{');
        put_summary(&text, i);
        put_dkim(&text, i);
        buf_add_byte(&text, '}');
        cloud_ses_answer(r->http, buf_slice(&text));
    }
    buf_fini(&text);
}

static void list_identities(struct cloud_request *r)
{
    struct buf json = {0};

    buf_add_str(&json, "{\"EmailIdentities\":[");
    for (const struct identity *i = r->cloud->identities->identities; i != NULL; i = i->next) {
        buf_add_str(&json, json.ptr[json.len - 1] == '[' ? "{" : ",{");
        json_put_str(&json, "IdentityName", slice_str(i->name));
        json_put_str(&json, "IdentityType",
                     i->is_domain ? SLICE("DOMAIN") : SLICE("EMAIL_ADDRESS"));
        json_put_bool(&json, "SendingEnabled", is_verified(i));
        json_put_str(&json, "VerificationStatus", slice_str(i->verification));
        buf_add_byte(&json, '}');
    }
    buf_add_str(&json, "]}");
    cloud_ses_answer(r->http, buf_slice(&json));
    buf_fini(&json);
}

static void get_identity(struct cloud_request *r, const struct identity *i)
{
    struct buf json = {0};

    buf_add_byte(&json, '{');
    put_summary(&json, i);
    json_put_str(&json, "VerificationStatus", slice_str(i->verification));
    json_put_bool(&json, "FeedbackForwardingStatus", i->forwards_feedback);
    put_dkim(&json, i);
    if (i->mail_from != NULL) {
        buf_add_str(&json, ",\"MailFromAttributes\":{");
        json_put_str(&json, "MailFromDomain", slice_str(i->mail_from));
        json_put_str(&json, "MailFromDomainStatus", slice_str(i->mail_from_status));
        json_put_str(&json, "BehaviorOnMxFailure", slice_str(i->on_mx_failure));
        buf_add_byte(&json, '}');
    }
    if (i->configuration_set != NULL)
        json_put_str(&json, "ConfigurationSetName", slice_str(i->configuration_set));
    json_put_name(&json, "Tags");
    if (i->tags != NULL)
        json_put_tree(&json, i->tags);
    else
        buf_add_str(&json, "[]");
    buf_add_str(&json, ",\"Policies\":{}}");
    cloud_ses_answer(r->http, buf_slice(&json));
    buf_fini(&json);
}

static void delete_identity(struct cloud_request *r, struct identity *i)
{
    *identity_at(r->cloud->identities, slice_str(i->name)) = i->next;
    identity_free(i);
    cloud_ses_answer(r->http, SLICE("{}"));
}

static void put_mail_from(struct cloud_request *r, struct identity *i, const cJSON *in)
{
    struct slice domain = json_get_text(in, "MailFromDomain");
    struct slice behaviour = json_get_text(in, "BehaviorOnMxFailure");
    struct buf suffix = {0};

    buf_printf(&suffix, ".%s", i->name);
    if (domain.len > 0 && !slice_ends_nocase(domain, buf_slice(&suffix))) {
        cloud_ses_error(r->http, 400, "BadRequestException",
                        "The MAIL FROM domain must be a subdomain of the identity.");
    } else {
        if (i->mail_from == NULL || !slice_eq_nocase(slice_str(i->mail_from), domain))
            i->mail_from_status = "PENDING";
        free(i->mail_from);
        i->mail_from = domain.len > 0 ? copy_of(domain) : NULL;
        i->on_mx_failure =
            slice_eq(behaviour, SLICE("REJECT_MESSAGE")) ? "REJECT_MESSAGE" : "USE_DEFAULT_VALUE";
        cloud_ses_answer(r->http, SLICE("{}"));
    }
    buf_fini(&suffix);
}

static void put_set(struct cloud_request *r, struct identity *i, const cJSON *in)
{
    struct slice set = json_get_text(in, "ConfigurationSetName");

    if (set.len > 0 && cloud_sets_state(r->cloud->sets, set) == CLOUD_SET_ABSENT) {
        cloud_ses_error(r->http, 404, "NotFoundException", "Configuration set does not exist.");
        return;
    }
    free(i->configuration_set);
    i->configuration_set = set.len > 0 ? copy_of(set) : NULL;
    cloud_ses_answer(r->http, SLICE("{}"));
}

void cloud_identities_handle(struct cloud_request *r, const char *name, const char *what)
{
    struct identity *i = *identity_at(r->cloud->identities, slice_str(name));
    bool get = strcmp(r->method, "GET") == 0;
    cJSON *in = json_parse(r->body);
    struct buf words = {0};

    if (name[0] == '\0' && get) {
        list_identities(r);
    } else if (name[0] == '\0') {
        create_identity(r, in);
    } else if (i == NULL) {
        buf_printf(&words, "Email identity %s does not exist.", name);
        cloud_ses_error(r->http, 404, "NotFoundException", buf_cstr(&words));
    } else if (what[0] == '\0' && get) {
        get_identity(r, i);
    } else if (what[0] == '\0') {
        delete_identity(r, i);
    } else if (strcmp(what, "mail-from") == 0) {
        put_mail_from(r, i, in);
    } else if (strcmp(what, "configuration-set") == 0) {
        put_set(r, i, in);
    } else if (strcmp(what, "dkim") == 0) {
        i->dkim_enabled = json_get_bool(in, "SigningEnabled", false);
        cloud_ses_answer(r->http, SLICE("{}"));
    } else {
        i->forwards_feedback = json_get_bool(in, "EmailForwardingEnabled", false);
        cloud_ses_answer(r->http, SLICE("{}"));
    }
    buf_fini(&words);
    json_free(in);
}

/* -------- what DNS would say -------- */

static const char *status_of(struct slice given, const char *now)
{
    static const char *const statuses[] = {"PENDING", "SUCCESS", "FAILED", "TEMPORARY_FAILURE",
                                           "NOT_STARTED"};

    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (slice_eq(given, slice_str(statuses[i])))
            return statuses[i];
    return now;
}

bool cloud_identities_settle(struct cloud_identities *s, const cJSON *in)
{
    struct slice name = json_get_text(in, "identity");
    struct identity *i = *identity_at(s, name);

    if (name.len == 0)
        return false;
    if (i == NULL)
        i = identity_make(s, name);
    i->verification = status_of(json_get_text(in, "verification"), i->verification);
    i->dkim = status_of(json_get_text(in, "dkim"), i->dkim);
    i->mail_from_status = status_of(json_get_text(in, "mail_from"), i->mail_from_status);
    return true;
}

struct cloud_identities *cloud_identities_create(struct cloud *c)
{
    struct cloud_identities *s = mem_zero(1, sizeof *s);

    s->cloud = c;
    return s;
}

void cloud_identities_destroy(struct cloud_identities *s)
{
    while (s->identities != NULL) {
        struct identity *gone = s->identities;
        s->identities = gone->next;
        identity_free(gone);
    }
    free(s);
}

bool cloud_identities_tag(struct cloud_identities *s, struct slice name, const cJSON *tags)
{
    struct identity *i = *identity_at(s, name);

    if (i == NULL)
        return false;
    if (i->tags == NULL)
        i->tags = cJSON_CreateArray();
    cloud_ses_merge_tags(i->tags, tags);
    return true;
}
