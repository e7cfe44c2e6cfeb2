/*
 * httpd/auth.h - who may do what: HTTP Basic with user "api" and a domain's key.
 *
 * SHAPE   Keys are held and compared as SHA-256. Those of the configuration are all compared on
 *         every request, so the time taken tells nothing about a key, nor which domain it opens;
 *         then the rows of that one key are read from the store, which let it in or shut it out
 *         (store/keys.h). A key is one domain's or all domains', for everything or for sending only.
 * COST    Of the store: one look-up in a tree of a page or two, which is empty where no key was ever
 *         added or withdrawn.
 * MEMORY  auth_create()/auth_destroy(). Domains given out borrow from the configuration.
 * SOURCE  spec/mailgun.md §1.2.
 */
#ifndef HTTPD_AUTH_H
#define HTTPD_AUTH_H

#include "base/arena.h"
#include "base/config.h"
#include "store/store.h"

struct auth;

struct auth *auth_create(const struct config *config);
void auth_destroy(struct auth *auth);

enum auth_purpose { AUTH_ALL, AUTH_SENDING };

/* header: the value of Authorization (empty = none). The domains that its key opens for this
 * purpose, in the order of the configuration, in *domains; how many. 0 = no valid key. t: NULL where
 * there is no store yet, and so nothing was added or withdrawn. */
size_t auth_check(const struct auth *auth, struct store_txn *t, struct slice header,
                  enum auth_purpose purpose, struct arena *a,
                  const struct config_domain ***domains);

/* The figures of all domains: for the keys of all domains and for metrics.key, which may come as a
 * Bearer token, too. One that is withdrawn for any domain is for none of this. */
bool auth_may_read_metrics(const struct auth *auth, struct store_txn *t, struct slice header);
/* How a log line names the key of this header: the beginning of what stands in proxy.conf for it, as
 * `postern key` tells it; "(none)" when there is no key. */
enum { AUTH_FINGERPRINT = 24 };
void auth_fingerprint(struct slice header, char text[AUTH_FINGERPRINT]);

#endif
