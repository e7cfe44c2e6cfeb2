#include "aws/credential_chain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "aws/credential_document.h"
#include "aws/credential_process.h"
#include "aws/endpoint.h"
#include "aws/error.h"
#include "aws/profiles.h"
#include "aws/sign.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"

enum {
    METADATA_TIMEOUT_MS = 1000, /* behind a hop limit the first call just hangs */
    METADATA_TRIES = 3,
    METADATA_TOKEN_S = 21600,
    METADATA_TOKEN_MARGIN_S = 60,
    CONTAINER_TIMEOUT_MS = 2000,
    CONTAINER_TRIES = 3,
    STS_TIMEOUT_MS = 5000,
    STS_TRIES = 3,
    PAUSE_MS = 200,                /* between tries; doubles */
    TOKEN_FILE_MAX_BYTES = 20000,  /* what STS takes */
    ROLES_MAX = 8,                 /* one assumed by another */
    STALE_METADATA_MS = 5 * 60000, /* how long a document past its time is used on */
    PROFILE_NAME_SHOWN = 100,
    SESSION_NAME_LEAST = 2,
    SESSION_NAME_MOST = 64,
};

struct credential_chain {
    const struct config *config;
    struct fetch *fetch;
    fetch_alive *alive;
    void *arg;
    struct profiles profiles;
    bool used_profiles;    /* by the last answer, which has read them */
    char *region;          /* found by the last answer; NULL = not yet */
    char *metadata;        /* base URL of instance metadata */
    char *metadata_region; /* what it said: an instance moves to no other; NULL = not asked yet */
    struct buf metadata_token; /* "X-aws-ec2-metadata-token: …" */
    uint64_t metadata_token_until_mono_ms;
};

/* 1 = found, 0 = not configured, -1 = configured but broken. */
typedef int source(struct credential_chain *chain, struct credentials *found, struct err *err);

static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL ? value : "";
}

/* AWS says until when by its own clock: what is left by the answer's date holds, not our clock. */
static void set_expiry(struct credentials *c, int64_t date_wall_s)
{
    uint64_t now_wall_ms = date_wall_s > 0 ? (uint64_t)date_wall_s * 1000 : clock_wall_ms();
    uint64_t now_mono_ms = clock_mono_ms();

    if (c->expires_wall_ms == 0)
        return;
    c->expires_mono_ms = c->expires_wall_ms > now_wall_ms
                             ? now_mono_ms + (c->expires_wall_ms - now_wall_ms)
                             : now_mono_ms;
    if (c->expires_mono_ms == 0)
        c->expires_mono_ms = 1; /* 0 is "never" */
}

static bool is_expired(const struct credentials *c)
{
    return c->expires_mono_ms != 0 && c->expires_mono_ms <= clock_mono_ms();
}

/* Asks again where that may help. An answer below 500, but for 429, is the last word. */
static int fetch_patiently(struct credential_chain *chain, const struct fetch_request *r, int tries,
                           struct fetch_answer *answer, struct err *err)
{
    uint64_t pause_ms = PAUSE_MS;

    for (int i = 1;; i++) {
        int failed = fetch(chain->fetch, r, answer, err);
        if (failed == 0 && answer->status < 500 && answer->status != 429)
            return 0;
        if (i == tries || !fetch_is_alive(chain->fetch))
            return failed;
        if (failed == 0)
            fetch_answer_fini(answer);
        if (!fetch_pause(chain->fetch, pause_ms))
            return err_set(err, ERR_NETWORK, "given up, as we are leaving");
        pause_ms *= 2;
    }
}

/* ---- instance metadata ---- */

static void choose_metadata(struct credential_chain *chain)
{
    const char *endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    bool v6 = strcasecmp(variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"), "ipv6") == 0;

    chain->metadata = mem_strdup(endpoint[0] != '\0' ? endpoint
                                 : v6                ? "http://[fd00:ec2::254]"
                                                     : "http://169.254.169.254");
    for (size_t len = strlen(chain->metadata); len > 0 && chain->metadata[len - 1] == '/';)
        chain->metadata[--len] = '\0';
}

static int get_metadata_token(struct credential_chain *chain, struct err *err)
{
    struct buf url = {0};
    struct fetch_answer answer;
    struct err why;
    char ttl[64];

    if (chain->metadata_token.len > 0 && clock_mono_ms() < chain->metadata_token_until_mono_ms)
        return 0;
    buf_reset(&chain->metadata_token);
    buf_printf(&url, "%s/latest/api/token", chain->metadata);
    (void)snprintf(ttl, sizeof ttl, "X-aws-ec2-metadata-token-ttl-seconds: %d", METADATA_TOKEN_S);
    const struct fetch_request request = {
        .method = "PUT",
        .url = buf_cstr(&url),
        .headers = {ttl},
        .timeout_ms = METADATA_TIMEOUT_MS,
        .no_proxy = true,
    };
    int failed = fetch_patiently(chain, &request, METADATA_TRIES, &answer, &why);
    buf_fini(&url);
    if (failed != 0)
        return err_set(err, ERR_NETWORK, "EC2 instance metadata does not answer (%s)", why.text);
    struct slice token = slice_trim(buf_slice(&answer.body));
    bool fine = answer.status == 200 && token.len > 0;
    for (size_t i = 0; i < token.len; i++)
        fine = fine && token.ptr[i] > ' ' && token.ptr[i] <= '~';
    if (fine) {
        buf_add_str(&chain->metadata_token, "X-aws-ec2-metadata-token: ");
        buf_add_slice(&chain->metadata_token, token);
        chain->metadata_token_until_mono_ms =
            clock_mono_ms() + (METADATA_TOKEN_S - METADATA_TOKEN_MARGIN_S) * UINT64_C(1000);
    } else {
        (void)err_set(
            err, ERR_NETWORK, "EC2 instance metadata gives no token (status %d)%s", answer.status,
            answer.status == 403 ? ": it is switched off for this instance"
            : answer.status == 404 || answer.status == 405 ? ": nothing there speaks its version 2"
                                                           : "");
    }
    fetch_answer_fini(&answer);
    return fine ? 0 : -1;
}

/* 200 and 404 are answers; anything else is a failure. The token may have gone before its time. */
static int get_metadata(struct credential_chain *chain, const char *path, const char *label,
                        struct fetch_answer *answer, struct err *err)
{
    struct buf url = {0};
    struct err why;
    int result = 0;

    buf_printf(&url, "%s/latest/meta-data/%s", chain->metadata, path);
    text_percent_encode(&url, slice_str(label), "");
    for (int i = 0;; i++) {
        *answer = (struct fetch_answer){0};
        result = get_metadata_token(chain, err);
        if (result != 0)
            break;
        const struct fetch_request request = {
            .method = "GET",
            .url = buf_cstr(&url),
            .headers = {buf_cstr(&chain->metadata_token)},
            .timeout_ms = METADATA_TIMEOUT_MS,
            .no_proxy = true,
        };
        result = fetch_patiently(chain, &request, METADATA_TRIES, answer, &why);
        if (result != 0) {
            (void)err_set(err, ERR_NETWORK, "EC2 instance metadata does not answer (%s)", why.text);
            break;
        }
        if (answer->status == 200 || answer->status == 404)
            break;
        int status = answer->status;
        fetch_answer_fini(answer);
        buf_reset(&chain->metadata_token);
        if (status == 401 && i == 0)
            continue;
        result = err_set(err, ERR_NETWORK, "EC2 instance metadata answers %s with status %d", path,
                         status);
        break;
    }
    buf_fini(&url);
    return result;
}

static bool is_label(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~' || s.ptr[i] == '/')
            return false;
    return s.len > 0 && s.len <= 256;
}

static bool is_metadata_off(void)
{
    return strcasecmp(variable("AWS_EC2_METADATA_DISABLED"), "true") == 0;
}

static int get_role_credentials(struct credential_chain *chain, const char *role,
                                struct credentials *found, struct err *err)
{
    struct fetch_answer answer;

    if (get_metadata(chain, "iam/security-credentials/", role, &answer, err) != 0)
        return -1;
    int result =
        answer.status == 404
            ? err_set(err, ERR_CONFIG, "EC2 instance metadata knows no role %s", role)
            : document_read_metadata(buf_slice(&answer.body), "EC2 instance metadata", found, err);
    if (result == 0) {
        set_expiry(found, answer.date_wall_s);
        /* A service that is stalled hands out the old ones, and AWS takes them a while longer. */
        if (is_expired(found))
            found->expires_mono_ms = clock_mono_ms() + STALE_METADATA_MS;
        credentials_set_source(found, "EC2 instance metadata, role %s", role);
    }
    fetch_answer_fini(&answer);
    return result == 0 ? 1 : -1;
}

static int from_metadata(struct credential_chain *chain, struct credentials *found, struct err *err)
{
    struct fetch_answer answer;
    struct slice role, rest;
    struct buf name = {0};
    int result;

    if (is_metadata_off())
        return 0;
    if (get_metadata(chain, "iam/security-credentials/", "", &answer, err) != 0)
        return -1;
    (void)slice_cut(slice_trim(buf_slice(&answer.body)), '\n', &role, &rest);
    role = slice_trim(role);
    if (answer.status == 404) {
        result = err_set(err, ERR_CONFIG, "no IAM role is attached to this EC2 instance");
    } else if (!is_label(role)) {
        result = err_set(err, ERR_INPUT, "EC2 instance metadata names no role");
    } else {
        buf_add_slice(&name, role);
        result = get_role_credentials(chain, buf_cstr(&name), found, err);
    }
    buf_fini(&name);
    fetch_answer_fini(&answer);
    return result;
}

/* ---- the region ---- */

static int take_region(struct credential_chain *chain, struct slice region, const char *where,
                       struct err *err)
{
    if (!sign_is_region(region))
        return err_set(err, ERR_CONFIG,
                       "\"%.*s\" (%s) is no AWS region: write it like \"eu-west-1\"",
                       SLICE_ARGS(region), where);
    chain->region = mem_dup(region.ptr, region.len + 1);
    chain->region[region.len] = '\0';
    return 0;
}

static struct slice profile_name(const struct credential_chain *chain)
{
    return slice_str(chain->config->aws.profile[0] != '\0' ? chain->config->aws.profile
                                                           : "default");
}

/* Once for each answer, and only if it comes to that: the files may be out of reach. */
static int read_profiles(struct credential_chain *chain, struct err *err)
{
    if (chain->used_profiles)
        return 0;
    chain->used_profiles = true;
    return profiles_read(&chain->profiles, err);
}

static int find_region(struct credential_chain *chain, struct err *err)
{
    struct profile profile;
    struct fetch_answer answer;
    struct err why;

    free(chain->region);
    chain->region = NULL;
    if (chain->config->aws.region[0] != '\0')
        return take_region(chain, slice_str(chain->config->aws.region), "aws.region", err);
    if (read_profiles(chain, err) != 0)
        return -1;
    profiles_find(&chain->profiles, profile_name(chain), &profile);
    if (profile.region.len > 0)
        return take_region(chain, profile.region, "the AWS profile", err);
    if (is_metadata_off())
        return err_set(err, ERR_CONFIG,
                       "no AWS region: set aws.region, AWS_REGION or the profile's region");
    if (chain->metadata_region != NULL)
        return take_region(chain, slice_str(chain->metadata_region), "EC2 instance metadata", err);
    if (get_metadata(chain, "placement/region", "", &answer, &why) != 0)
        return err_set(err, ERR_CONFIG,
                       "no AWS region: set aws.region, AWS_REGION or the profile's region; %.300s",
                       why.text);
    struct slice text = answer.status == 200 ? slice_trim(buf_slice(&answer.body)) : slice_none();
    int failed = take_region(chain, text, "EC2 instance metadata", err);
    if (failed == 0)
        chain->metadata_region = mem_strdup(chain->region);
    fetch_answer_fini(&answer);
    return failed;
}

/* ---- a container's endpoint ---- */

/* Whom a token may be told in the clear. */
static int check_container_url(const char *url, struct err *err)
{
    static const char *const allowed[] = {"169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
    struct endpoint_parts parts;
    struct buf plain = {0};
    struct slice before, query;

    (void)slice_cut(slice_str(url), '?', &before, &query);
    buf_add_slice(&plain, before);
    int failed = endpoint_parse(&parts, buf_cstr(&plain), err);
    buf_fini(&plain);
    if (failed != 0)
        return -1;
    bool fine = parts.is_https || parts.is_loopback;
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        fine = fine || strcmp(parts.name, allowed[i]) == 0;
    if (!fine)
        failed = err_set(err, ERR_CONFIG,
                         "AWS_CONTAINER_CREDENTIALS_FULL_URI: %s is neither https, nor on this "
                         "machine, nor an address of ECS or EKS: no token is sent there",
                         parts.host);
    endpoint_fini(&parts);
    return failed;
}

/* The field line; empty = none is asked for. */
static int container_authorization(struct buf *line, struct err *err)
{
    const char *file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
               *plain = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    struct buf token = {0};

    if (file[0] != '\0') {
        int got = profiles_read_file(file, TOKEN_FILE_MAX_BYTES, &token, err);
        if (got <= 0)
            return got < 0
                       ? -1
                       : err_set(err, ERR_CONFIG,
                                 "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: there is no %s", file);
    } else if (plain[0] != '\0') {
        buf_add_str(&token, plain);
    } else {
        return 0;
    }
    int failed = 0;
    if (slice_find_byte(buf_slice(&token), '\r') != SIZE_MAX ||
        slice_find_byte(buf_slice(&token), '\n') != SIZE_MAX ||
        slice_find_byte(buf_slice(&token), '\0') != SIZE_MAX)
        failed = err_set(err, ERR_CONFIG,
                         "the container's authorization token holds a line break: none may stand "
                         "in it");
    (void)buf_reserve(line, token.len + sizeof "Authorization: ");
    buf_add_str(line, "Authorization: ");
    buf_add_slice(line, buf_slice(&token));
    credentials_wipe(&token);
    return failed;
}

static int from_container(struct credential_chain *chain, struct credentials *found,
                          struct err *err)
{
    const char *relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
               *full = variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    static const char where[] = "the container's credentials endpoint";
    struct buf url = {0}, line = {0};
    struct fetch_answer answer;
    struct err why;
    int result = -1;

    if (relative[0] == '\0' && full[0] == '\0')
        return 0;
    if (relative[0] != '\0')
        buf_printf(&url, "http://169.254.170.2%s%s", relative[0] == '/' ? "" : "/", relative);
    else
        buf_add_str(&url, full);
    if ((relative[0] == '\0' && check_container_url(full, err) != 0) ||
        container_authorization(&line, err) != 0)
        goto out;
    const struct fetch_request request = {
        .method = "GET",
        .url = buf_cstr(&url),
        .headers = {"Accept: application/json", line.len > 0 ? buf_cstr(&line) : NULL},
        .timeout_ms = CONTAINER_TIMEOUT_MS,
        .no_proxy = strncmp(buf_cstr(&url), "https:", 6) != 0,
    };
    if (fetch_patiently(chain, &request, CONTAINER_TRIES, &answer, &why) != 0) {
        (void)err_set(err, ERR_NETWORK, "%s does not answer (%s)", where, why.text);
        goto out;
    }
    if (answer.status != 200)
        (void)err_set(err, ERR_NETWORK, "%s answers with status %d%s", where, answer.status,
                      answer.status == 401 || answer.status == 403
                          ? ": it does not take our authorization token"
                          : "");
    else if (document_read_metadata(buf_slice(&answer.body), where, found, err) == 0)
        result = 1;
    if (result == 1) {
        set_expiry(found, answer.date_wall_s);
        credentials_set_source(found, "%s", where);
    }
    fetch_answer_fini(&answer);
out:
    credentials_wipe(&line);
    buf_fini(&url);
    return result;
}

/* ---- STS ---- */

static int sts_address(const struct credential_chain *chain, struct endpoint_parts *at,
                       struct err *err)
{
    struct buf url = {0};

    if (chain->config->aws.sts_endpoint[0] != '\0')
        buf_add_str(&url, chain->config->aws.sts_endpoint);
    else
        endpoint_put_regional(&url, "sts", chain->region);
    int failed = endpoint_parse(at, buf_cstr(&url), err);
    buf_fini(&url);
    return failed;
}

/* The fields of a signed call; `by` is not NULL. */
struct signed_fields {
    struct buf host, date, token, authorization, scratch;
};

static void sign_sts(const struct credential_chain *chain, const struct credentials *by,
                     const struct endpoint_parts *at, struct slice body, const char *content_type,
                     int64_t offset_s, struct signed_fields *f)
{
    struct sign_scope scope = {.region = slice_str(chain->region), .service = SLICE("sts")};
    struct sign_header fields[4];
    size_t count = 0;
    uint8_t key[SHA256_BYTES];

    sign_date((uint64_t)((int64_t)(clock_wall_ms() / 1000) + offset_s), scope.date);
    fields[count++] = (struct sign_header){SLICE("host"), slice_str(at->host)};
    fields[count++] =
        (struct sign_header){SLICE("x-amz-date"), slice_of(scope.date, SIGN_DATE_CHARS)};
    fields[count++] = (struct sign_header){SLICE("content-type"), slice_str(content_type)};
    if (by->session_token[0] != '\0')
        fields[count++] =
            (struct sign_header){SLICE("x-amz-security-token"), slice_str(by->session_token)};
    buf_reset(&f->host);
    buf_reset(&f->date);
    buf_reset(&f->token);
    buf_reset(&f->authorization);
    buf_printf(&f->host, "Host: %s", at->host);
    buf_printf(&f->date, "X-Amz-Date: %s", scope.date);
    if (by->session_token[0] != '\0')
        buf_printf(&f->token, "X-Amz-Security-Token: %s", by->session_token);
    buf_add_str(&f->authorization, "Authorization: ");
    sign_key(slice_str(by->secret_access_key), &scope, key);
    struct buf path = {0};
    buf_printf(&path, "%s/", at->prefix);
    sign_authorization(&f->authorization, &f->scratch,
                       &(struct sign_request){.method = SLICE("POST"),
                                              .path = buf_slice(&path),
                                              .headers = fields,
                                              .header_count = count,
                                              .body = body},
                       &scope, slice_str(by->access_key_id), key);
    buf_fini(&path);
    explicit_bzero(key, sizeof key);
}

static void signed_fields_fini(struct signed_fields *f)
{
    credentials_wipe(&f->host);
    credentials_wipe(&f->date);
    credentials_wipe(&f->token);
    credentials_wipe(&f->authorization);
    credentials_wipe(&f->scratch);
}

/* by: who asks; NULL = nobody signs, the body holds the proof. */
static int call_sts_once(struct credential_chain *chain, const struct credentials *by,
                         struct slice body, int64_t offset_s, struct fetch_answer *answer,
                         struct err *err)
{
    static const char content_type[] = "application/x-www-form-urlencoded; charset=utf-8";
    struct signed_fields fields = {0};
    struct endpoint_parts at;
    struct buf url = {0};

    if (sts_address(chain, &at, err) != 0)
        return -1;
    buf_printf(&url, "%s%s/", at.origin, at.prefix);
    struct fetch_request request = {
        .method = "POST",
        .url = buf_cstr(&url),
        .headers = {"Content-Type: application/x-www-form-urlencoded; charset=utf-8"},
        .body = body,
        .timeout_ms = STS_TIMEOUT_MS,
        .no_proxy = at.is_loopback,
    };
    if (by != NULL) {
        sign_sts(chain, by, &at, body, content_type, offset_s, &fields);
        request.headers[1] = buf_cstr(&fields.host);
        request.headers[2] = buf_cstr(&fields.date);
        request.headers[3] = buf_cstr(&fields.authorization);
        request.headers[4] = fields.token.len > 0 ? buf_cstr(&fields.token) : NULL;
    }
    int failed = fetch(chain->fetch, &request, answer, err);
    signed_fields_fini(&fields);
    endpoint_fini(&at);
    buf_fini(&url);
    return failed;
}

static bool is_worth_asking_again(int status, struct slice code)
{
    return status >= 500 || status == 429 || slice_eq(code, SLICE("IDPCommunicationError")) ||
           slice_starts(code, SLICE("Throttling"));
}

static int call_sts(struct credential_chain *chain, const char *action, const char *where,
                    const struct credentials *by, struct slice body, struct credentials *found,
                    struct err *err)
{
    uint64_t pause_ms = PAUSE_MS;
    int64_t offset_s = 0;
    struct err why;

    for (int i = 1;; i++) {
        struct fetch_answer answer;
        struct arena arena = {0};
        struct aws_error error = {0};
        int result = -1;
        bool again = true;
        if (call_sts_once(chain, by, body, offset_s, &answer, &why) != 0) {
            (void)err_set(err, ERR_NETWORK, "%s: STS does not answer (%s)", where, why.text);
        } else if (answer.status == 200) {
            result = document_read_sts(buf_slice(&answer.body), action, where, found, err);
            if (result == 0)
                set_expiry(found, answer.date_wall_s);
            again = false;
            fetch_answer_fini(&answer);
        } else {
            aws_error_read(&arena, &(struct aws_error_fields){0}, buf_slice(&answer.body), &error);
            (void)err_set(err, ERR_CONFIG, "%s: STS refuses %s: status %d, %.*s: %.*s", where,
                          action, answer.status, SLICE_ARGS(error.code), SLICE_ARGS(error.text));
            again = is_worth_asking_again(answer.status, error.code);
            if (by != NULL && offset_s == 0 && answer.date_wall_s > 0 &&
                aws_error_is_clock(error.code)) {
                offset_s = answer.date_wall_s - (int64_t)(clock_wall_ms() / 1000);
                again = offset_s != 0;
            }
            fetch_answer_fini(&answer);
        }
        arena_fini(&arena);
        if (!again || i == STS_TRIES || !fetch_pause(chain->fetch, pause_ms))
            return result;
        pause_ms *= 2;
    }
}

static void add_field(struct buf *body, const char *name, struct slice value)
{
    if (value.len == 0)
        return;
    buf_printf(body, "&%s=", name);
    text_percent_encode(body, value, "");
}

/* What both calls have. The name is checked here, as STS's words for a wrong one are hard to read.
 */
static int begin_body(struct buf *body, const char *action, struct slice role, struct slice session,
                      struct slice duration, const char *where, struct err *err)
{
    uint64_t seconds = 0;

    if (session.len == 0)
        session = SLICE("postern");
    bool fine = session.len >= SESSION_NAME_LEAST && session.len <= SESSION_NAME_MOST;
    for (size_t i = 0; i < session.len; i++) {
        uint8_t c = session.ptr[i];
        fine = fine && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || (c != '\0' && strchr("_+=,.@-", c) != NULL));
    }
    if (!fine)
        return err_set(err, ERR_CONFIG,
                       "%s: the role session name has 2 to 64 letters, digits or _+=,.@-", where);
    if (duration.len > 0 && (!slice_to_u64(duration, &seconds) || seconds < 900 || seconds > 43200))
        return err_set(err, ERR_CONFIG, "%s: duration_seconds is a number from 900 to 43200",
                       where);
    buf_printf(body, "Action=%s&Version=2011-06-15", action);
    add_field(body, "RoleArn", role);
    add_field(body, "RoleSessionName", session);
    add_field(body, "DurationSeconds", duration);
    return 0;
}

static int assume_with_web_identity(struct credential_chain *chain, struct slice role,
                                    struct slice token_file, struct slice session,
                                    struct slice duration, const char *where,
                                    struct credentials *found, struct err *err)
{
    static const char action[] = "AssumeRoleWithWebIdentity";
    struct arena arena = {0};
    struct buf token = {0}, body = {0};
    struct slice name;
    const char *path = arena_cstr(&arena, token_file);
    int got = profiles_read_file(path, TOKEN_FILE_MAX_BYTES, &token, err);

    if (got == 0)
        got = err_set(err, ERR_CONFIG, "%s: there is no token file %s", where, path);
    else if (got > 0 && slice_trim(buf_slice(&token)).len == 0)
        got = err_set(err, ERR_CONFIG, "%s: the token file %s is empty", where, path);
    (void)buf_reserve(&body, 3 * TOKEN_FILE_MAX_BYTES + 8192); /* so that no copy is left behind */
    if (got > 0 && begin_body(&body, action, role, session, duration, where, err) != 0)
        got = -1;
    if (got > 0) {
        add_field(&body, "WebIdentityToken", slice_trim(buf_slice(&token)));
        got = call_sts(chain, action, where, NULL, buf_slice(&body), found, err) == 0 ? 1 : -1;
    }
    if (got > 0) {
        size_t slash = slice_rfind_byte(role, '/');
        name = slash == SIZE_MAX ? role : slice_from(role, slash + 1);
        credentials_set_source(found, "web identity, role %.*s", SLICE_ARGS(name));
    }
    credentials_wipe(&token);
    credentials_wipe(&body);
    arena_fini(&arena);
    return got;
}

static int from_web_identity(struct credential_chain *chain, struct credentials *found,
                             struct err *err)
{
    const char *file = variable("AWS_WEB_IDENTITY_TOKEN_FILE"), *role = variable("AWS_ROLE_ARN");

    if (chain->config->aws.profile_is_set || file[0] == '\0')
        return 0;
    if (role[0] == '\0')
        return err_set(err, ERR_CONFIG, "AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not");
    return assume_with_web_identity(chain, slice_str(role), slice_str(file),
                                    slice_str(variable("AWS_ROLE_SESSION_NAME")), slice_none(),
                                    "web identity (AWS_ROLE_ARN)", found, err);
}

/* ---- settings and profiles ---- */

static int from_settings(struct credential_chain *chain, struct credentials *found, struct err *err)
{
    const struct config *c = chain->config;

    if (c->aws.access_key_id[0] == '\0' && c->aws.secret_access_key[0] == '\0')
        return 0;
    if (credentials_set(found, slice_str(c->aws.access_key_id), slice_str(c->aws.secret_access_key),
                        slice_str(c->aws.session_token),
                        "aws.access_key_id and aws.secret_access_key (AWS_ACCESS_KEY_ID, "
                        "AWS_SECRET_ACCESS_KEY)",
                        err) != 0)
        return -1;
    credentials_set_source(found, "the configuration or the environment");
    return 1;
}

/* A way through profiles: each names the next, and none may come twice. */
struct way {
    struct slice names[ROLES_MAX];
    size_t count;
};

static int from_profile(struct credential_chain *chain, struct way *way, struct slice name,
                        struct credentials *found, struct err *err);

static int from_named_source(struct credential_chain *chain, struct slice name, const char *where,
                             struct credentials *found, struct err *err)
{
    static const struct {
        const char *name;
        source *get;
    } known[] = {{"Environment", NULL}, /* not aws.access_key_id: what AWS's variables say */
                 {"Ec2InstanceMetadata", from_metadata},
                 {"EcsContainer", from_container}};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!slice_eq(name, slice_str(known[i].name)))
            continue;
        if (known[i].get == NULL)
            return credentials_set(found, slice_str(variable("AWS_ACCESS_KEY_ID")),
                                   slice_str(variable("AWS_SECRET_ACCESS_KEY")),
                                   slice_str(variable("AWS_SESSION_TOKEN")), where, err) == 0
                       ? 1
                       : -1;
        int got = known[i].get(chain, found, err);
        return got != 0 ? got
                        : err_set(err, ERR_CONFIG,
                                  "%s: credential_source = %s, and the environment knows none",
                                  where, known[i].name);
    }
    return err_set(err, ERR_CONFIG,
                   "%s: credential_source is Environment, Ec2InstanceMetadata or EcsContainer, not "
                   "\"%.*s\"",
                   where, SLICE_ARGS(name));
}

static int assume_role(struct credential_chain *chain, struct way *way, const struct profile *p,
                       const char *where, struct credentials *found, struct err *err)
{
    static const char action[] = "AssumeRole";
    struct credentials by = {0};
    struct buf body = {0};
    int got;

    if ((p->source_profile.len > 0) == (p->credential_source.len > 0))
        return err_set(err, ERR_CONFIG,
                       "%s: role_arn needs source_profile or credential_source, and not both",
                       where);
    if (p->mfa_serial.len > 0)
        return err_set(err, ERR_CONFIG,
                       "%s: mfa_serial asks for a code, and nobody is there to give one", where);
    got = p->source_profile.len > 0
              ? from_profile(chain, way, p->source_profile, &by, err)
              : from_named_source(chain, p->credential_source, where, &by, err);
    if (got > 0 && begin_body(&body, action, p->role_arn, p->role_session_name, p->duration_seconds,
                              where, err) != 0)
        got = -1;
    if (got > 0) {
        add_field(&body, "ExternalId", p->external_id);
        got = call_sts(chain, action, where, &by, buf_slice(&body), found, err) == 0 ? 1 : -1;
    }
    credentials_fini(&by);
    credentials_wipe(&body);
    return got;
}

static int from_program(struct credential_chain *chain, const struct profile *p, const char *where,
                        struct credentials *found, struct err *err)
{
    struct buf output = {0};
    int failed = process_run(p->credential_process, where, PROCESS_TIMEOUT_MS, chain->alive,
                             chain->arg, &output, err);

    if (failed == 0) {
        struct buf words = {0};
        buf_printf(&words, "%s, credential_process", where);
        failed = document_read_process(buf_slice(&output), buf_cstr(&words), found, err);
        set_expiry(found, 0);
        if (failed == 0 && is_expired(found))
            failed = err_set(err, ERR_CONFIG, "%s printed credentials that have expired",
                             buf_cstr(&words));
        buf_fini(&words);
    }
    credentials_wipe(&output);
    return failed == 0 ? 1 : -1;
}

static int from_keys(const struct profile *p, const char *where, struct credentials *found,
                     struct err *err)
{
    struct buf words = {0};

    buf_printf(&words, "%s in %s", where, p->keys_path);
    int failed = credentials_set(found, p->access_key_id, p->secret_access_key, p->session_token,
                                 buf_cstr(&words), err);
    buf_fini(&words);
    return failed == 0 ? 1 : -1;
}

/* 0 = the profile says nothing of credentials, or there is none and nobody asked for it. */
static int from_profile(struct credential_chain *chain, struct way *way, struct slice name,
                        struct credentials *found, struct err *err)
{
    struct profile p;
    bool is_itself = false, is_first = way->count == 0;
    char where[160];
    int got;

    (void)snprintf(where, sizeof where, "the AWS profile \"%.*s\"",
                   SLICE_ARGS(slice_head(name, PROFILE_NAME_SHOWN)));
    profiles_find(&chain->profiles, name, &p);
    for (size_t i = 0; i < way->count; i++) {
        if (!slice_eq(way->names[i], name))
            continue;
        /* A role of its own keys is no circle. */
        is_itself = i + 1 == way->count && p.keys_path != NULL;
        if (!is_itself)
            return err_set(err, ERR_CONFIG, "%s: its source_profile leads back to it", where);
    }
    if (way->count == ROLES_MAX)
        return err_set(err, ERR_CONFIG, "%s: more than %d roles, one assumed by another", where,
                       ROLES_MAX);
    way->names[way->count++] = name;

    if (!p.present && (!is_first || chain->config->aws.profile[0] != '\0'))
        return err_set(err, ERR_CONFIG, "%s is neither in %s nor in %s", where,
                       chain->profiles.credentials_path, chain->profiles.config_path);
    if (p.role_arn.len > 0 && !is_itself) {
        if (p.web_identity_token_file.len > 0)
            got = assume_with_web_identity(chain, p.role_arn, p.web_identity_token_file,
                                           p.role_session_name, p.duration_seconds, where, found,
                                           err);
        else
            got = assume_role(chain, way, &p, where, found, err);
    } else if (p.keys_path != NULL) {
        got = from_keys(&p, where, found, err);
    } else if (p.credential_process.len > 0) {
        got = from_program(chain, &p, where, found, err);
    } else if (p.unsupported.len > 0) {
        got = err_set(err, ERR_CONFIG,
                      "%s uses %.*s, which needs a person at a browser: give it a role, keys or a "
                      "credential_process",
                      where, SLICE_ARGS(p.unsupported));
    } else {
        got = is_first
                  ? 0
                  : err_set(err, ERR_CONFIG, "%s, a source_profile, has no credentials", where);
    }
    if (got > 0)
        credentials_set_source(found, "%s", where);
    return got;
}

static int from_shared_files(struct credential_chain *chain, struct credentials *found,
                             struct err *err)
{
    struct way way = {0};

    return read_profiles(chain, err) != 0
               ? -1
               : from_profile(chain, &way, profile_name(chain), found, err);
}

/* ---- the chain ---- */

struct credential_chain *chain_create(const struct config *config, fetch_alive *alive, void *arg)
{
    struct credential_chain *chain = mem_zero(1, sizeof *chain);

    chain->config = config;
    chain->alive = alive;
    chain->arg = arg;
    chain->fetch = fetch_create(alive, arg);
    profiles_init(&chain->profiles);
    choose_metadata(chain);
    return chain;
}

void chain_destroy(struct credential_chain *chain)
{
    if (chain == NULL)
        return;
    fetch_destroy(chain->fetch);
    profiles_fini(&chain->profiles);
    credentials_wipe(&chain->metadata_token);
    free(chain->metadata);
    free(chain->metadata_region);
    free(chain->region);
    free(chain);
}

int chain_get(struct credential_chain *chain, struct credentials *found, struct err *err)
{
    static source *const sources[] = {from_settings, from_web_identity, from_shared_files,
                                      from_container, from_metadata};
    int got = 0;

    *found = (struct credentials){0};
    chain->used_profiles = false;
    if (find_region(chain, err) != 0) /* first: STS is asked in it */
        got = -1;
    for (size_t i = 0; got == 0 && i < sizeof sources / sizeof sources[0]; i++)
        got = sources[i](chain, found, err);
    if (got == 0)
        got = err_set(err, ERR_CONFIG,
                      "none are configured: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                      "aws.access_key_id and aws.secret_access_key, a profile in ~/.aws, or run on "
                      "a machine with a role");
    if (got > 0)
        credentials_set_region(found, slice_str(chain->region));
    else
        credentials_fini(found);
    profiles_forget(&chain->profiles);
    return got > 0 ? 0 : -1;
}

bool chain_has_changed(const struct credential_chain *chain)
{
    return chain->used_profiles && profiles_have_changed(&chain->profiles);
}
