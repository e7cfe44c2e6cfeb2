/*
 * httpd/client.h - who sent a request, and to which origin, when proxies stand between.
 *
 * SHAPE   A proxy in trusted_proxies is believed what it says of whom it speaks for, and nobody
 *         else is. The chain is read from its near end: as long as a hop is trusted too, what stands
 *         before it was written by it and counts; the first that is not trusted is the client.
 *         X-Forwarded-* wins over Forwarded: hardly any proxy writes Forwarded unasked, and those
 *         that do not pass on what the client wrote there.
 * MEMORY  Texts live in the arena, borrow from the headers, or are the arguments.
 * ERRORS  None: what cannot be read ends the chain there.
 * SOURCE  RFC 7239 §4, §5, §6.
 */
#ifndef HTTPD_CLIENT_H
#define HTTPD_CLIENT_H

#include <event2/keyvalq_struct.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/network.h"

struct proxies; /* who is trusted */

struct proxies *proxies_create(const struct config_list *texts); /* checked by config_load() */
void proxies_destroy(struct proxies *p);                         /* NULL is fine */
/* peer: an address, or CLIENT_UNIX. */
bool proxies_trust(const struct proxies *p, struct slice peer);

#define CLIENT_UNIX "unix" /* the peer at a Unix socket */

struct client {
    struct slice address; /* "192.0.2.1", CLIENT_UNIX, or what a proxy calls it: "_hidden" */
    struct slice host;    /* authority as the client wrote it; may be no such thing at all */
    bool https;
};

/* peer: at the other end of the connection; https: of the connection itself. */
void client_find(const struct proxies *p, struct slice peer, bool https,
                 const struct evkeyvalq *headers, struct arena *a, struct client *client);

#endif
