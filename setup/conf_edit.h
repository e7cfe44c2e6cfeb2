/*
 * setup/conf_edit.h - changes single values of a proxy.conf and leaves everything else, comments and
 * layout, byte for byte.
 *
 * SHAPE   libconfuse's syntax: key = value, key = {list}, section { … }, section "title" { … };
 *         comments as "#", "//" and slash-star. The text's own syntax has been checked before
 *         (base/config.h): of what is broken, this makes no more than another broken text.
 * MEMORY  The text is the caller's buf; values are copied into it.
 * CRASH   conf_edit_save() writes a new file beside the old one, syncs it, and renames it over: killed
 *         at any instant there is the whole old one or the whole new one, and the backup beside it.
 */
#ifndef SETUP_CONF_EDIT_H
#define SETUP_CONF_EDIT_H

#include "base/buf.h"
#include "base/err.h"

/* Sets a key to a value in the file's syntax ("true", "\"text\"", "{\"a\", \"b\"}"). section: "" = outside
 * of all; title: NULL = the section has none. Where the key stands commented out, the line comes
 * behind that one; where it does not stand, at the section's end; without the section, this comes at
 * the file's end. */
void conf_edit_set(struct buf *text, const char *section, const char *title, const char *key,
                   const char *value);

/* Whether the key stands there, and not only in a comment. */
bool conf_edit_has(const struct buf *text, const char *section, const char *title, const char *key);

/* Gives the section "old" another title. False: there is none. */
bool conf_edit_retitle(struct buf *text, const char *section, const char *old_title,
                       const char *new_title);

/* Appends the text in quotes, quotes and backslashes within escaped. */
void conf_edit_quote(struct buf *to, struct slice text);

/* The file's text, appended; a file that is not there is an empty one. */
int conf_edit_read(const char *path, struct buf *text, struct err *err);

/* Replaces the file, or what the link of that name leads to. Mode and owner are the old file's (0640
 * where there was none). The old text is kept in PATH.bak, or PATH.bak.1 … where that is there;
 * backup gets its name, or nothing. A text that Postern could not run with is refused, and nothing
 * is changed: -1. */
int conf_edit_save(const char *path, const struct buf *text, struct buf *backup, struct err *err);

#endif
