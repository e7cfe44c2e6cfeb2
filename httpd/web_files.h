/*
 * httpd/web_files.h - the dashboard's files (web/), built in.
 *
 * MEMORY  Static; as in the source tree.
 */
#ifndef HTTPD_WEB_FILES_H
#define HTTPD_WEB_FILES_H

#include "base/slice.h"

struct web_file {
    const char *name; /* "app.js"; "" = the page itself */
    const char *type;
    const uint8_t *begin, *end;
};

/* NULL: there is none. */
const struct web_file *web_file_find(struct slice name);

#endif
