/*
 * store/control.h - what people ask of a running Postern, over a socket in its state directory.
 *
 * SHAPE   A SOCK_SEQPACKET socket <state_dir>/control, mode 0600. One packet is one record: CONTROL
 *         asks, CONTROLLED answers (shm/record.h). A client may ask again after its answer.
 * ENDS    The writer listens; one writer lives at a time, so a socket file that is there when it
 *         starts is a dead one's. The command line asks. Whoever may open the socket is obeyed.
 * UNITS   In the names.
 * MEMORY  A request borrows from its client until control_answer(). A decoded answer borrows from
 *         the caller's buffer.
 * ERRORS  A client that sends what is no request, that says nothing for CONTROL_IDLE_MS, or that
 *         does not read its answer is closed, and nothing else happens. Nothing here blocks the
 *         writer.
 * CRASH   A request is applied within the writer's transaction and answered after its commit. An
 *         answer that got lost leaves the request done: all of them may be asked again. The
 *         request of a client that is gone is applied all the same.
 */
#ifndef STORE_CONTROL_H
#define STORE_CONTROL_H

#include <event2/event.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/err.h"
#include "shm/record.h"

#define CONTROL_SOCKET "control"

enum {
    CONTROL_CLIENTS_MAX = 16,
    CONTROL_REQUEST_MAX = 64 * 1024,
    CONTROL_ANSWER_MAX = 192 * 1024, /* fits a socket's buffer as Linux grants it to anybody */
    CONTROL_IDLE_MS = 10000,
    CONTROL_TIMEOUT_MS = 10000,
};

/* -------- the writer's half: store/control.c -------- */

struct control;

/* wake(arg) is called from the loop when a request has come: the writer then makes a turn. */
struct control *control_open(const char *state_dir, struct event_base *base,
                             void (*wake)(void *arg), void *arg, struct err *err);
void control_close(struct control *c); /* NULL is fine. Before the event base is freed */

bool control_has_work(const struct control *c); /* NULL has none */

/* Takes the request that has waited longest into the present turn. Each one taken is answered
 * before the next is. NULL has none. */
bool control_next(struct control *c, struct record_control *r);
/* The answer of the request taken last; kept until control_send(). One that is longer than
 * CONTROL_ANSWER_MAX becomes a refusal that says so. */
void control_answer(struct control *c, const struct record_controlled *a);

/* After the commit: the answers of this turn go out. NULL is fine. */
void control_send(struct control *c);
/* The turn was given up: those whose requests it took are closed without an answer. NULL is fine.
 */
void control_forget(struct control *c);

/* May the command line alone ask for this, and no process that faces the internet? */
bool control_is_command_lines(uint32_t verb);

/* -------- the command line's half: store/control_client.c -------- */

/* Asks and waits for the answer. ERR_NOT_FOUND: no Postern runs there. ERR_NETWORK: it did not
 * answer within CONTROL_TIMEOUT_MS, or left before it did. */
int control_ask(const char *state_dir, const struct record_control *r, struct buf *answer,
                struct record_controlled *a, struct err *err);

/* Both: the address of a socket of that name. A socket's path has room for 107 bytes: a longer one
 * goes through *dir_fd, a descriptor of state_dir (else -1) that the caller closes after bind(),
 * rename() or connect(). */
int control_address(const char *state_dir, const char *name, struct sockaddr_un *at, int *dir_fd,
                    struct err *err);

#endif
