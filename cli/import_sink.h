/*
 * cli/import_sink.h - where `postern import` puts what its readers find: into packets for the running
 * writer, or, in a dry run, before import_judge() (store/import.h).
 *
 * MEMORY  What is put is copied. sink_close() frees.
 * ERRORS  Once a packet could not be handed over, everything put is passed over and `failed` says
 *         so; what went before it stays, and a second run finds it known.
 */
#ifndef CLI_IMPORT_SINK_H
#define CLI_IMPORT_SINK_H

#include "cli/options.h"
#include "cli/progress.h"
#include "mail/event.h"
#include "shm/record.h"
#include "store/import.h"

enum { SINK_LEFT_MAX = 8 };

/* What the source has and we do not take, and why; the words are literals. */
struct sink_left {
    const char *why;
    uint64_t count;
};

struct import_sink {
    const struct cli_options *o;
    const struct config *config;
    const char *source; /* the file */
    struct progress progress;
    struct store *store; /* a dry run's; NULL: there is none yet */
    struct import sums;  /* of all packets */
    struct buf records;  /* encoded, each as msgpack binary */
    uint32_t record_count;
    struct buf one, packed;
    struct sink_left left[SINK_LEFT_MAX];
    uint64_t refused;
    bool failed;
    struct arena arena; /* the reader's, for a row */
};

int sink_open(struct import_sink *s, const struct cli_options *o, const struct config *config,
              struct err *err);
void sink_flush(struct import_sink *s);
void sink_close(struct import_sink *s);

/* The configured domain of that name, or of that address, or a parent of its; else --domain's. Where
 * the source names neither, the only one that is configured. Empty: none of these. */
struct slice sink_domain(const struct import_sink *s, struct slice name, struct slice address);

/* e with all its members and its id. list: where its address goes, SUPPRESS_NONE = nowhere. */
void sink_event(struct import_sink *s, const struct event *e, enum suppression list,
                struct slice code, struct slice text);
void sink_address(struct import_sink *s, struct slice domain, enum suppression list,
                  struct slice address, struct slice code, struct slice text, uint64_t created_us);
void sink_mail(struct import_sink *s, const struct record_elsewhere *r);

/* A row that cannot be used: said (the first o->limit of them), and counted. where: "line 7", … */
void sink_refuse(struct import_sink *s, const char *where, const char *why);
void sink_leave(struct import_sink *s, const char *why);

/* "2026-03-01 18:20:05.123", UTC, as MySQL and SQLite write it; 0 = it is none. */
uint64_t sink_time_us(struct slice text);

/* The readers. -1: the source as a whole cannot be used, and nothing was put. */
int import_dump(struct import_sink *s, struct slice text, struct err *err);
int import_sqlite(struct import_sink *s, const char *path, struct err *err);

#endif
