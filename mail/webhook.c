#include "mail/webhook.h"

#include <event2/http.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/json.h"

static const struct {
    const char *name;
    enum webhook_kind kind;
} names[] = {
    {"accepted", WEBHOOK_ACCEPTED},
    {"delivered", WEBHOOK_DELIVERED},
    {"opened", WEBHOOK_OPENED},
    {"clicked", WEBHOOK_CLICKED},
    {"unsubscribed", WEBHOOK_UNSUBSCRIBED},
    {"complained", WEBHOOK_COMPLAINED},
    {"permanent_fail", WEBHOOK_PERMANENT_FAIL},
    {"temporary_fail", WEBHOOK_TEMPORARY_FAIL},
    /* of older SDKs */
    {"unsubscribe", WEBHOOK_UNSUBSCRIBED},
    {"deliver", WEBHOOK_DELIVERED},
    {"open", WEBHOOK_OPENED},
    {"click", WEBHOOK_CLICKED},
    {"spam", WEBHOOK_COMPLAINED},
    {"bounce", WEBHOOK_PERMANENT_FAIL},
    {"drop", WEBHOOK_PERMANENT_FAIL},
};

enum { NAMES = sizeof names / sizeof names[0] };

const char *webhook_kind_name(enum webhook_kind kind)
{
    for (size_t i = 0; i < NAMES; i++)
        if (names[i].kind == kind)
            return names[i].name;
    return "";
}

enum webhook_kind webhook_kind_from(struct slice name)
{
    for (size_t i = 0; i < NAMES; i++)
        if (slice_eq_nocase(name, slice_str(names[i].name)))
            return names[i].kind;
    return WEBHOOK_NONE;
}

enum webhook_kind webhook_kind_of(const struct event *e)
{
    switch (e->type) {
    case EVENT_ACCEPTED:
        return WEBHOOK_ACCEPTED;
    case EVENT_DELIVERED:
        return WEBHOOK_DELIVERED;
    case EVENT_FAILED:
        return e->severity == SEVERITY_PERMANENT ? WEBHOOK_PERMANENT_FAIL : WEBHOOK_TEMPORARY_FAIL;
    case EVENT_OPENED:
        return WEBHOOK_OPENED;
    case EVENT_CLICKED:
        return WEBHOOK_CLICKED;
    case EVENT_UNSUBSCRIBED:
        return WEBHOOK_UNSUBSCRIBED;
    case EVENT_COMPLAINED:
        return WEBHOOK_COMPLAINED;
    case EVENT_REJECTED:
    case EVENT_STORED:
    case EVENT_TYPE_END:
        break;
    }
    return WEBHOOK_NONE;
}

static bool is_printable(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] >= 0x7f)
            return false;
    return true;
}

bool webhook_url_is_valid(struct slice url, const char **why)
{
    char text[WEBHOOK_URL_BYTES_MAX + 1];
    bool has_host = false;

    *why = NULL;
    if (url.len == 0 || url.len > WEBHOOK_URL_BYTES_MAX || !is_printable(url)) {
        *why = url.len > WEBHOOK_URL_BYTES_MAX ? "too long" : "invalid characters";
        return false;
    }
    if (!slice_starts_nocase(url, SLICE("http://")) &&
        !slice_starts_nocase(url, SLICE("https://"))) {
        *why = "invalid URL scheme";
        return false;
    }
    memcpy(text, url.ptr, url.len);
    text[url.len] = '\0';
    struct evhttp_uri *parsed = evhttp_uri_parse(text);
    if (parsed != NULL) {
        const char *host = evhttp_uri_get_host(parsed);
        has_host = host != NULL && host[0] != '\0';
        evhttp_uri_free(parsed);
    }
    if (!has_host)
        *why = parsed == NULL ? "invalid URL" : "no host in request URL";
    return has_host;
}

void webhook_body(struct buf *to, struct slice signing_key, uint64_t timestamp_s,
                  const uint8_t token[WEBHOOK_SECRET_BYTES], const struct event *e,
                  struct slice storage_base)
{
    struct buf signature = {0}, signed_text = {0};
    uint8_t mac[SHA256_BYTES];

    buf_add_u64(&signed_text, timestamp_s);
    size_t timestamp_len = signed_text.len;
    text_hex(&signed_text, slice_of(token, WEBHOOK_SECRET_BYTES));
    digest_hmac_sha256(signing_key, buf_slice(&signed_text), mac);
    text_hex(&signature, slice_of(mac, sizeof mac));

    buf_add_str(to, "{\"signature\":{");
    json_put_str(to, "timestamp", slice_head(buf_slice(&signed_text), timestamp_len));
    json_put_str(to, "token", slice_from(buf_slice(&signed_text), timestamp_len));
    json_put_str(to, "signature", buf_slice(&signature));
    buf_add_str(to, "},\"event-data\":");
    event_to_json(to, e, storage_base);
    buf_add_byte(to, '}');
    buf_fini(&signature);
    buf_fini(&signed_text);
}
