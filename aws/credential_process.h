/*
 * aws/credential_process.h - a program that prints credentials, run.
 *
 * SHAPE   The command is split into words as a shell does (blanks, '…', "…", \), and the first is
 *         run, found by PATH; there is no shell and nothing is expanded. Its standard input is
 *         empty, what it says on standard error is dropped: secrets may stand there.
 *         Of the environment it gets what AWS's tools, a home, a locale and a proxy are named by
 *         (PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, TMPDIR, LC_…, XDG_…, AWS_…, SSL_CERT_…,
 *         …_proxy), not what else Postern was given.
 * ENDS    The keeper alone: the one process besides the master that starts another. It uses
 *         posix_spawn(), so nothing of its memory is ever in the program. The program has a process
 *         group of its own, which is killed when it takes longer than PROCESS_TIMEOUT_MS, prints
 *         more than PROCESS_OUTPUT_MAX_BYTES, or `alive` says no.
 * MEMORY  The caller wipes *output.
 * ERRORS  -1 and a sentence, without anything the program printed.
 * SOURCE  AWS SDKs and Tools Reference Guide, "Process credential provider".
 */
#ifndef AWS_CREDENTIAL_PROCESS_H
#define AWS_CREDENTIAL_PROCESS_H

#include "aws/fetch.h"
#include "base/arena.h"

enum {
    PROCESS_TIMEOUT_MS = 60000,
    PROCESS_OUTPUT_MAX_BYTES = 64 * 1024,
    PROCESS_WORDS_MAX = 64,
};

/* The command's words, NULL behind the last. -1: a quote is not closed, none, or too many. */
int process_split(struct arena *arena, struct slice command, char *words[PROCESS_WORDS_MAX + 1],
                  struct err *err);

/* where: the profile, for words. */
int process_run(struct slice command, const char *where, uint64_t timeout_ms, fetch_alive *alive,
                void *arg, struct buf *output, struct err *err);

#endif
