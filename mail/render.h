/*
 * mail/render.h - Mailgun's %variables%: a text is cut into parts once per batch, and put together
 * once per recipient.
 *
 * SHAPE   Placeholders: %recipient.KEY%, with any KEY that a recipient of the batch defines;
 * %recipient%, %recipient_email%, %recipient_name%, %recipient_fname%, %recipient_lname%. The
 * unsubscribe placeholders (%unsubscribe_url%, %unsubscribe_email%, %mailing_list_unsubscribe_url%,
 *         %tag_…%) have no value here and leave nothing behind. Everything else is text, also
 *         %recipient.KEY% with a KEY unknown to the whole batch (counted).
 *         One pass: values go in verbatim and are never scanned.
 * MEMORY  Templates and keys live in the caller's arena; literals borrow from the text compiled.
 *         Values borrow from the recipient or live in the arena given.
 * ERRORS  None: every text is a template.
 * SOURCE  spec/mailgun.md §2.6, spec/ghost.md §8.
 */
#ifndef MAIL_RENDER_H
#define MAIL_RENDER_H

#include "mail/message.h"

/* Places in a recipient's array of values. The batch's own keys follow. */
enum {
    RENDER_RECIPIENT, /* Bob <bob@example.net> */
    RENDER_EMAIL,
    RENDER_NAME,
    RENDER_FNAME,
    RENDER_LNAME,
    RENDER_KEYS, /* the first key of the batch */
    RENDER_LITERAL = 0x7fffffff,
};

/* The union of all recipients' keys. {0} is the empty set; its place + RENDER_KEYS is a slot. */
struct render_keys {
    struct slice *names;
    size_t count, cap;
    uint32_t *table; /* open addressing; place + 1, 0 = free */
    size_t table_size;
};

void render_keys_add(struct render_keys *k, struct arena *a,
                     struct slice name);                                 /* copies a new name */
size_t render_keys_find(const struct render_keys *k, struct slice name); /* SIZE_MAX: not there */

static inline size_t render_slot_count(const struct render_keys *k)
{
    return RENDER_KEYS + k->count;
}

struct render_part {
    struct slice literal; /* when slot is RENDER_LITERAL */
    uint32_t slot;
};

struct render_template {
    struct render_part *parts;
    size_t count;
    size_t literal_bytes;
    uint32_t unknown_count; /* %recipient.KEY% without such a KEY: left as text */
    uint32_t erased_count;  /* placeholders that leave nothing */
    bool varies;            /* at least one part is a value */
};

/* keys NULL: no batch mode, the text is one literal, whatever it holds. */
void render_compile(struct render_template *t, struct slice text, const struct render_keys *keys,
                    struct arena *a);

/* Fills values[render_slot_count()] for one recipient. A key that it lacks is empty; returns how
 * many are. */
size_t render_values(const struct render_keys *k, const struct recipient *r, struct arena *a,
                     struct slice *values);

/* How many bytes render_run() would append: known without making them, and without looking at more
 * than the lengths. A value that is named often can be more than any memory holds. */
size_t render_length(const struct render_template *t, const struct slice *values);

/* Appends the text for these values. */
void render_run(const struct render_template *t, const struct slice *values, struct buf *to);

#endif
