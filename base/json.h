/*
 * base/json.h - JSON: reading through cJSON (the one door to it), writing by appending to a buf.
 *
 * MEMORY  json_parse() gives a tree that json_free() frees; slices read from it borrow from it.
 *         json_parse_in() gives one that lives and dies with the arena, and is never freed: where
 *         there are many trees that is a quarter of their cost.
 * ERRORS  json_parse() gives NULL for anything that is no JSON value, is deeper than cJSON's limit,
 *         or is followed by more than blanks. The getters answer "absent" for a wrong type.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/arena.h"
#include "base/buf.h"

/* From now on a process that gets no memory for a tree ends (base/mem.h); else the tree is missing
 * or torn. Before any other call. */
void json_end_without_memory(void);

cJSON *json_parse(struct slice text);
const cJSON *json_parse_in(struct arena *a, struct slice text);
void json_free(cJSON *tree);

/* Member by exact name; NULL when absent or when object is no object (or NULL). */
const cJSON *json_get(const cJSON *object, const char *name);
/* Text of a string value; empty when v is NULL or no string. */
struct slice json_text(const cJSON *v);
struct slice json_get_text(const cJSON *object, const char *name);
/* Integral number in range, else false. */
bool json_i64(const cJSON *v, int64_t *value);
bool json_get_i64(const cJSON *object, const char *name, int64_t *value);
bool json_get_bool(const cJSON *object, const char *name, bool absent);
/* Array elements: for (const cJSON *e = json_first(array); e != NULL; e = e->next). */
const cJSON *json_first(const cJSON *array_or_object);

/* Appends the tree as JSON on one line. */
void json_put_tree(struct buf *to, const cJSON *tree);
/* Appends "…" with quotes; control bytes, quote and backslash escaped; UTF-8 goes as it is, bytes
 * that are no UTF-8 become U+FFFD. */
void json_put_text(struct buf *to, struct slice s);
/* The same without the quotes around it. */
void json_put_escaped(struct buf *to, struct slice s);
/* How many bytes that would append. */
size_t json_escaped_length(struct slice s);
/* Appends `"name":`, with a comma before it unless the buffer ends in '{', '[' or ','. */
void json_put_name(struct buf *to, const char *name);
/* Name and value in one go. */
void json_put_str(struct buf *to, const char *name, struct slice value);
void json_put_u64(struct buf *to, const char *name, uint64_t value);
void json_put_i64(struct buf *to, const char *name, int64_t value);
void json_put_bool(struct buf *to, const char *name, bool value);

#endif
