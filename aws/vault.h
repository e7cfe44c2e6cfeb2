/*
 * aws/vault.h - AWS's credentials, handed from the process that gets them to those that sign.
 *
 * SHAPE   Two notices (shm/notice.h): the credentials, and the news about them, which hold nothing
 *         secret. And a word in which a signer asks for others, with the keeper's bell.
 * ENDS    The master creates it before it forks and keeps it. The keeper publishes. Senders and
 *         pollers read and ask. Every other role calls vault_leave() right after fork(): the
 *         credentials are then not in its memory, and never were.
 * UNITS   Milliseconds. A generation is the number of a publication; it grows.
 * MEMORY  vault_create()/vault_destroy(). What vault_credentials() shows is valid until its next
 *         call in this process.
 * ERRORS  "None" is an answer, with words in the news.
 * CRASH   A keeper that dies leaves what it published: it stays usable until it expires. A question
 *         nobody answered is asked again with the next refused call.
 */
#ifndef AWS_VAULT_H
#define AWS_VAULT_H

#include "aws/credentials.h"
#include "shm/bell.h"
#include "shm/notice.h"

struct vault;

struct vault *vault_create(struct err *err);
void vault_destroy(struct vault *v); /* NULL is fine */

/* Right after fork(), in a role that does not sign: unmaps the credentials. Only the news stay. */
void vault_leave(struct vault *v);
/* Heard by the keeper, rung by whoever asks: its descriptor stays open in those. */
const struct bell *vault_bell(const struct vault *v);
/* The news: JSON, an object, as `postern status` shows it (keeper/keeper.c). */
struct notice *vault_news(const struct vault *v);

/* ---- who signs ---- */

/* NULL: none yet, or expired. */
const struct credentials *vault_credentials(struct vault *v, uint64_t now_mono_ms);
/* Why there are none: one sentence, appended. */
void vault_put_trouble(const struct vault *v, struct buf *to);
/* AWS has refused what was signed with this generation: asks for others. There are none to be had
 * once vault_answers() is no longer what this returns, unless the generation is another, too. */
uint64_t vault_ask(struct vault *v, uint64_t generation);
uint64_t vault_answers(const struct vault *v);

/* ---- the keeper ---- */

/* Numbers them, too. -1: too long to be handed over. */
int vault_publish(struct vault *v, struct credentials *c, struct err *err);
/* The generation that was refused; 0 = nobody asks. Taken: asked again it is 0. */
uint64_t vault_take_question(struct vault *v);
bool vault_has_question(const struct vault *v);
/* All who have asked until now have their answer. */
void vault_answer(struct vault *v);

#endif
