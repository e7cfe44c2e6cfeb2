/*
 * store/templates.h - stored templates (mail/handlebars.h) and their versions.
 *
 * SHAPE   templates:         domain, name → description, when and by whom made, id, active version
 *         template_versions: domain, name, 0, tag → content, headers, comment, when made, id
 *         Names and tags: UTF-8 without control characters, ASCII letters lower case, at most
 *         TEMPLATE_NAME_BYTES each. An active version is one that is there.
 * ENDS    Changes: the writer, in its write transaction. Look-ups: anyone.
 * MEMORY  Slices point into the map until the transaction ends, or the next change.
 * CRASH   A template and its first version are in one transaction.
 * SOURCE  spec/mailgun.md §10; Mailgun's OpenAPI; recordings of real answers.
 */
#ifndef STORE_TEMPLATES_H
#define STORE_TEMPLATES_H

#include "base/arena.h"
#include "base/buf.h"
#include "shm/record.h"
#include "store/store.h"

enum {
    TEMPLATE_NAME_BYTES = 200,
    TEMPLATE_CONTENT_BYTES = 1 << 20,
    TEMPLATE_WORDS_BYTES = 4096, /* description, comment, createdBy, headers: each */
    TEMPLATES_MAX = 200,         /* of a domain */
    TEMPLATE_VERSIONS_MAX = 100, /* of a template */
};

struct template_row {
    struct slice name, description, created_by, id;
    struct slice active; /* a version's tag; empty = none */
    uint64_t created_us;
};

struct template_version {
    struct slice tag, content, headers /* JSON */, comment, mjml, id;
    uint64_t created_us;
};

/* As names and tags are kept: ASCII letters lower case. */
struct slice template_name_fold(struct slice name, struct arena *a);
/* May this be a template's name, or a version's tag? */
bool template_name_is_fine(struct slice name);

bool template_get(struct store_txn *t, struct slice domain, struct slice name,
                  struct template_row *row);
bool template_version_get(struct store_txn *t, struct slice domain, struct slice name,
                          struct slice tag, struct template_version *version);

/* In alphabetical order from behind `past` on (empty = the start), backwards: from before it (empty
 * = the end), until visit answers false. */
typedef bool template_visitor(void *arg, const struct template_row *row);
void template_each(struct store_txn *t, struct slice domain, struct slice past, bool backwards,
                   template_visitor *visit, void *arg);
typedef bool template_version_visitor(void *arg, const struct template_version *version);
void template_version_each(struct store_txn *t, struct slice domain, struct slice name,
                           struct slice past, bool backwards, template_version_visitor *visit,
                           void *arg);

/* What a client asks for. *verdict: NOT_FOUND, REFUSED and LIMIT with *words for the client. 0 or
 * -1. */
int template_change(struct store_txn *t, const struct record_template *r, uint64_t now_us,
                    enum answer_verdict *verdict, struct buf *words, struct err *err);

/* Does all of it agree? Calls problem for what does not. */
void template_check(struct store_txn *t, void (*problem)(void *arg, const char *words), void *arg);

#endif
