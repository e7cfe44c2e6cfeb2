#include "setup/dns.h"

#include <assert.h>

static void add(struct dns_records *records, struct slice name, const char *type,
                struct slice value, const char *purpose)
{
    assert(records->count < DNS_RECORDS_MAX);
    records->list[records->count++] = (struct dns_record){name, type, value, purpose};
}

static void add_dkim(struct dns_records *records, struct arena *arena, const cJSON *identity,
                     const char *domain)
{
    const cJSON *dkim = json_get(identity, "DkimAttributes");
    struct slice zone = json_get_text(dkim, "SigningHostedZone"),
                 origin = json_get_text(dkim, "SigningAttributesOrigin");

    /* With a key of one's own, the tokens are its selector, and no CNAME leads to SES. */
    if (origin.len > 0 && !slice_starts(origin, SLICE("AWS_SES")))
        return;
    if (zone.len == 0)
        zone = SLICE("dkim.amazonses.com");
    for (const cJSON *t = json_first(json_get(dkim, "Tokens"));
         t != NULL && records->count < DNS_RECORDS_MAX - 3; t = t->next) {
        add(records, arena_printf(arena, "%.*s._domainkey.%s", SLICE_ARGS(json_text(t)), domain),
            "CNAME", arena_printf(arena, "%.*s.%.*s", SLICE_ARGS(json_text(t)), SLICE_ARGS(zone)),
            "DKIM: mail is signed as the domain's");
        records->has_dkim = true;
    }
}

void dns_gather(struct dns_records *records, struct arena *arena, const cJSON *identity,
                const char *domain, const char *mail_from, const char *region)
{
    struct slice from = json_get_text(json_get(identity, "MailFromAttributes"), "MailFromDomain");

    *records = (struct dns_records){0};
    add_dkim(records, arena, identity, domain);
    from = from.len > 0 ? arena_dup(arena, from) : slice_str(mail_from);
    if (from.len > 0) {
        add(records, from, "MX", arena_printf(arena, "10 feedback-smtp.%s.amazonses.com", region),
            "MAIL FROM: bounces come back to SES");
        add(records, from, "TXT", SLICE("v=spf1 include:amazonses.com ~all"),
            "MAIL FROM: SES may send (SPF)");
    }
    add(records, arena_printf(arena, "_dmarc.%s", domain), "TXT", SLICE("v=DMARC1; p=none"),
        "DMARC: large providers insist on one; tighten p= when all mail passes");
}

static bool is_text(const struct dns_record *r)
{
    return r->type[0] == 'T';
}

void dns_put_table(struct buf *to, const struct dns_records *records)
{
    size_t widest = 4;

    for (size_t i = 0; i < records->count; i++)
        if (records->list[i].name.len > widest)
            widest = records->list[i].name.len;
    buf_printf(to, "%-*s  %-5s  %s\n", (int)widest, "name", "type", "value");
    for (size_t i = 0; i < records->count; i++) {
        const struct dns_record *r = &records->list[i];
        buf_printf(to, "%-*.*s  %-5s  %.*s\n", (int)widest, SLICE_ARGS(r->name), r->type,
                   SLICE_ARGS(r->value));
    }
}

void dns_put_zone(struct buf *to, const struct dns_records *records)
{
    const char *purpose = "";

    for (size_t i = 0; i < records->count; i++) {
        const struct dns_record *r = &records->list[i];
        if (r->purpose != purpose)
            buf_printf(to, "; %s\n", r->purpose);
        purpose = r->purpose;
        buf_printf(to, is_text(r) ? "%.*s. 3600 IN %s \"%.*s\"\n" : "%.*s. 3600 IN %s %.*s.\n",
                   SLICE_ARGS(r->name), r->type, SLICE_ARGS(r->value));
    }
}

void dns_put_json(struct buf *to, const struct dns_records *records)
{
    buf_add_byte(to, '[');
    for (size_t i = 0; i < records->count; i++) {
        const struct dns_record *r = &records->list[i];
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "name", r->name);
        json_put_str(to, "type", slice_str(r->type));
        json_put_str(to, "value", r->value);
        json_put_str(to, "purpose", slice_str(r->purpose));
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}
