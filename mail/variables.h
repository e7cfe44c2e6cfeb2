/*
 * mail/variables.h - the JSON objects that carry variables, read in one pass and without a tree.
 *
 * SHAPE   {"name":value,…}. A value as text: a string's characters; a number, true and false as
 *         they are written; null empty; an object or array as compact JSON.
 * MEMORY  Names and values borrow from the JSON text, or live in the arena when something had to
 *         be undone.
 * ERRORS  MEMBERS_BAD and false: no JSON by RFC 8259, or nested deeper than VARIABLES_DEPTH_MAX.
 * SOURCE  spec/mailgun.md §2.5.
 *
 * Not through base/json: cJSON turns numbers into doubles, cuts a text at \u0000, refuses all 1,000
 * recipients for half of a surrogate pair in one name, and needs some 20 bytes for each one sent.
 */
#ifndef MAIL_VARIABLES_H
#define MAIL_VARIABLES_H

#include "mail/message.h"

enum { VARIABLES_DEPTH_MAX = 32 };

enum members_result { MEMBERS_OK, MEMBERS_END, MEMBERS_BAD };

struct members {
    struct slice rest;
    bool first;
};

/* False when text does not begin as an object. */
bool members_open(struct members *m, struct slice text);
/* value: the JSON of it, checked. END only when nothing but blanks is behind the object. */
enum members_result members_next(struct members *m, struct arena *a, struct slice *name,
                                 struct slice *value);

bool json_is_object(struct slice value); /* of a value that members_next() gave */
struct slice json_value_text(struct slice value, struct arena *a);

/* Names with values, each name once: a later value replaces an earlier one. {0} is empty. */
struct variable_set {
    struct name_value *list;
    size_t count, cap;
    uint32_t *table; /* open addressing; place + 1, 0 = free */
    size_t table_size;
    uint32_t seed; /* makes collisions hard to arrange */
};

void variable_set_put(struct variable_set *v, struct slice name, struct slice value);
/* Adds all members of an object. */
bool variable_set_read(struct variable_set *v, struct slice object, struct arena *a);
/* A copy of the list; the set is empty again, and keeps its room. */
struct name_value *variable_set_take(struct variable_set *v, struct arena *a, size_t *count);
void variable_set_fini(struct variable_set *v);

#endif
