#include "httpd/client.h"

#include <event2/http.h>
#include <event2/util.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/mem.h"

enum { HOPS_MAX = 32, NAME_MAX_BYTES = 64 };

struct proxies {
    bool unix_socket;
    size_t count;
    struct network networks[];
};

struct proxies *proxies_create(const struct config_list *texts)
{
    struct proxies *p = mem_zero(1, sizeof *p + texts->count * sizeof *p->networks);

    for (size_t i = 0; i < texts->count; i++) {
        struct slice text = slice_str(texts->texts[i]);
        if (slice_eq(text, SLICE(CLIENT_UNIX)))
            p->unix_socket = true;
        else if (network_read(text, &p->networks[p->count]))
            p->count++;
    }
    return p;
}

void proxies_destroy(struct proxies *p)
{
    free(p);
}

bool proxies_trust(const struct proxies *p, struct slice peer)
{
    struct network_address address;

    if (slice_eq(peer, SLICE(CLIENT_UNIX)))
        return p->unix_socket;
    if (p->count == 0 || !network_address_read(peer, &address))
        return false;
    for (size_t i = 0; i < p->count; i++)
        if (network_holds(&p->networks[i], &address))
            return true;
    return false;
}

/* One hop of the chain, as the proxy that received it tells. Empty: not told. */
struct hop {
    struct slice from, host, proto;
};

struct chain {
    struct hop hops[HOPS_MAX]; /* the nearest last; of a longer chain the nearest ones */
    size_t count;
};

/* All lines of the name as one list. SOURCE RFC 9110 §5.3 */
static struct slice all_of(const struct evkeyvalq *headers, const char *name, struct arena *a)
{
    struct buf joined = {0};
    const struct evkeyval *header;

    TAILQ_FOREACH(header, headers, next)
    {
        if (evutil_ascii_strcasecmp(header->key, name) != 0)
            continue;
        if (joined.len > 0)
            buf_add_byte(&joined, ',');
        buf_add_str(&joined, header->value);
    }
    struct slice all = joined.len == 0 ? slice_none() : arena_dup(a, buf_slice(&joined));
    buf_fini(&joined);
    return all;
}

/* What stands before the next `separator` that is not in quotes. False: nothing is left. */
static bool next_item(struct slice *list, uint8_t separator, struct slice *item)
{
    bool quoted = false;
    size_t at = 0;

    if (list->len == 0)
        return false;
    for (; at < list->len && (quoted || list->ptr[at] != separator); at++) {
        if (list->ptr[at] == '"')
            quoted = !quoted;
        else if (list->ptr[at] == '\\' && quoted)
            at++;
    }
    *item = slice_trim(slice_head(*list, at));
    *list = slice_from(*list, at + 1);
    return true;
}

static struct slice unquote(struct slice value, struct arena *a)
{
    struct buf plain = {0};

    if (value.len < 2 || value.ptr[0] != '"' || value.ptr[value.len - 1] != '"')
        return value;
    for (size_t i = 1; i + 1 < value.len; i++) {
        if (value.ptr[i] == '\\' && i + 2 < value.len)
            i++;
        buf_add_byte(&plain, value.ptr[i]);
    }
    struct slice text = plain.len == 0 ? slice_none() : arena_dup(a, buf_slice(&plain));
    buf_fini(&plain);
    return text;
}

static void chain_add(struct chain *chain, struct hop hop)
{
    if (chain->count == HOPS_MAX) {
        memmove(chain->hops, chain->hops + 1, sizeof chain->hops - sizeof *chain->hops);
        chain->count--;
    }
    chain->hops[chain->count++] = hop;
}

static void read_forwarded(struct slice list, struct arena *a, struct chain *chain)
{
    struct slice element, pair, name, value;

    while (next_item(&list, ',', &element)) {
        struct hop hop = {0};
        while (next_item(&element, ';', &pair)) {
            if (!slice_cut(pair, '=', &name, &value))
                continue;
            value = unquote(slice_trim(value), a);
            name = slice_trim(name);
            if (slice_eq_nocase(name, SLICE("for")))
                hop.from = value;
            else if (slice_eq_nocase(name, SLICE("host")))
                hop.host = value;
            else if (slice_eq_nocase(name, SLICE("proto")))
                hop.proto = value;
        }
        chain_add(chain, hop);
    }
}

/* The item that belongs to the hop `back` before the last: a proxy that does not append leaves one
 * item only, which then stands for all. */
static struct slice item_back(struct slice list, size_t back)
{
    struct slice items[HOPS_MAX], item;
    size_t count = 0;

    while (next_item(&list, ',', &item)) {
        if (count == HOPS_MAX) {
            memmove(items, items + 1, sizeof items - sizeof *items);
            count--;
        }
        items[count++] = item;
    }
    if (count == 0)
        return slice_none();
    return items[back < count ? count - 1 - back : 0];
}

static void read_x_forwarded(const struct evkeyvalq *headers, struct arena *a, struct chain *chain)
{
    struct slice list = all_of(headers, "X-Forwarded-For", a), from;
    struct slice hosts = all_of(headers, "X-Forwarded-Host", a);
    struct slice protos = all_of(headers, "X-Forwarded-Proto", a);

    while (next_item(&list, ',', &from))
        chain_add(chain, (struct hop){.from = from});
    if (chain->count == 0 && (hosts.len > 0 || protos.len > 0))
        chain_add(chain, (struct hop){0});
    for (size_t i = 0; i < chain->count; i++) {
        chain->hops[i].host = item_back(hosts, chain->count - 1 - i);
        chain->hops[i].proto = item_back(protos, chain->count - 1 - i);
    }
}

/* "192.0.2.1", "192.0.2.1:4711", "[2001:db8::1]:4711", "_hidden", "unknown" → the name alone; empty:
 * unknown, or nothing that could be one. */
static struct slice node_name(struct slice node)
{
    struct network_address address;
    size_t end;

    if (node.len == 0 || node.len > NAME_MAX_BYTES || slice_eq_nocase(node, SLICE("unknown")))
        return slice_none();
    if (node.ptr[0] == '[') {
        end = slice_find_byte(node, ']');
        node = end == SIZE_MAX ? slice_none() : slice_head(slice_from(node, 1), end - 1);
        return network_address_read(node, &address) ? node : slice_none();
    }
    if (network_address_read(node, &address))
        return node;
    end = slice_find_byte(node, ':');
    if (end != SIZE_MAX)
        node = slice_head(node, end);
    if (node.len > 0 && node.ptr[0] == '_') {
        for (size_t i = 0; i < node.len; i++)
            if (node.ptr[i] <= ' ' || node.ptr[i] >= 0x7f)
                return slice_none();
        return node;
    }
    return network_address_read(node, &address) ? node : slice_none();
}

void client_find(const struct proxies *p, struct slice peer, bool https,
                 const struct evkeyvalq *headers, struct arena *a, struct client *client)
{
    struct chain chain = {0};

    *client = (struct client){
        .address = peer,
        .https = https,
        .host = slice_str(evhttp_find_header(headers, "Host")),
    };
    if (!proxies_trust(p, peer))
        return;
    read_x_forwarded(headers, a, &chain);
    if (chain.count == 0)
        read_forwarded(all_of(headers, "Forwarded", a), a, &chain);
    for (size_t i = chain.count; i > 0; i--) {
        const struct hop *hop = &chain.hops[i - 1];
        struct slice name = node_name(hop->from);

        if (hop->host.len > 0)
            client->host = hop->host;
        if (slice_eq_nocase(hop->proto, SLICE("https")))
            client->https = true;
        else if (slice_eq_nocase(hop->proto, SLICE("http")))
            client->https = false;
        if (name.len == 0)
            return;
        client->address = name;
        if (!proxies_trust(p, name))
            return;
    }
}
