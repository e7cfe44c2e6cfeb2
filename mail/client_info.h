/*
 * mail/client_info.h - what opened a mail or followed a link, from its User-Agent and address.
 *
 * SHAPE   Mailgun's `client-info`: names as its examples have them; "unknown" where nothing is
 *         known. bot: "apple" (Mail Privacy Protection), "gmail" (the image proxy), "generic"
 *         (scanners of links, libraries, crawlers), empty = nothing says that it was no person.
 * MEMORY  Texts are static; user_agent and ip are only read.
 * ERRORS  None: what is not recognised is unknown. A User-Agent can be forged, and scanners that
 *         pretend to be browsers from addresses that nobody publishes pass for people.
 * SOURCE  spec/mailgun.md §4.5; mailgun.yaml (client-info); the vendors' published ranges, in the
 *         table.
 */
#ifndef MAIL_CLIENT_INFO_H
#define MAIL_CLIENT_INFO_H

#include "base/slice.h"

struct client_info {
    struct slice name, os, type, device, bot;
};

struct client_info client_info_of(struct slice user_agent, struct slice ip);

#endif
