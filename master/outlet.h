/*
 * master/outlet.h - where the log goes: standard error, or a pipe to the logger.
 *
 * ENDS    The master. What it opens its children inherit; the file never needs rights of theirs.
 * ERRORS  Before outlet_open() has succeeded, and when it fails, lines go to standard error.
 */
#ifndef MASTER_OUTLET_H
#define MASTER_OUTLET_H

#include "base/config.h"
#include "logger/pump.h"

/* Level, format, addresses: from here on, and for children born later. */
void outlet_settings(const struct config *config);

int outlet_open(struct log_outlet *o, const struct config *config, struct err *err);
/* Opens the file anew, as after it was renamed; nothing else has one. The old one stays in use when
 * that fails. */
int outlet_reopen(struct log_outlet *o, const struct config *config, struct err *err);
/* In a child that is not the logger, or in the logger: which end of the pipe stays. */
void outlet_keep(struct log_outlet *o, bool is_logger);
/* Writes what is still in the pipe, once nobody else is left. */
void outlet_close(struct log_outlet *o);

#endif
