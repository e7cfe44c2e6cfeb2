/*
 * setup/dns.h - the DNS records that the domain needs, from what SES says of its identity.
 *
 * SHAPE   DKIM: a CNAME per token. MAIL FROM: an MX and a TXT (SPF). DMARC: a TXT whose policy
 *         is "none", to begin with. Pure.
 * MEMORY  Texts are in the caller's arena.
 * SOURCE  spec/aws.md §5 "Identities"; RFC 1035 §5.1 (zone files); RFC 7489 §6.3 (DMARC).
 */
#ifndef SETUP_DNS_H
#define SETUP_DNS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"

enum { DNS_RECORDS_MAX = 8 };

struct dns_record {
    struct slice name;  /* without a dot at its end */
    const char *type;   /* "CNAME", "MX", "TXT" */
    struct slice value; /* of MX "10 host"; of TXT without quotes */
    const char *purpose;
};

struct dns_records {
    struct dns_record list[DNS_RECORDS_MAX];
    size_t count;
    bool has_dkim; /* false: SES has told no tokens (yet, or the key is one of your own) */
};

/* identity: as setup/inspect.h finds it; NULL = not there yet. mail_from: "" = none. */
void dns_gather(struct dns_records *records, struct arena *arena, const cJSON *identity,
                const char *domain, const char *mail_from, const char *region);

void dns_put_table(struct buf *to, const struct dns_records *records);
/* With absolute names, to be put into any zone file. */
void dns_put_zone(struct buf *to, const struct dns_records *records);
/* [{"name","type","value","purpose"}] */
void dns_put_json(struct buf *to, const struct dns_records *records);

#endif
