/*
 * courier/public_address.h - may a stranger's URL lead there?
 *
 * SOURCE  IANA's registries of special-purpose addresses, IPv4 and IPv6 (RFC 6890 and its
 *         successors): what is not globally reachable is not public, nor is multicast. An IPv4
 *         address within an IPv6 one (mapped, NAT64, 6to4) is judged by itself.
 */
#ifndef COURIER_PUBLIC_ADDRESS_H
#define COURIER_PUBLIC_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Of another family than AF_INET and AF_INET6: never. */
bool address_is_public(const struct sockaddr *address);

#endif
