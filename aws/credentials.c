#include "aws/credentials.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/pack.h"

enum { SOURCE_MAX_BYTES = 256 };

static void forget(char **text)
{
    if (*text != NULL)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void credentials_fini(struct credentials *c)
{
    forget(&c->access_key_id);
    forget(&c->secret_access_key);
    forget(&c->session_token);
    forget(&c->region);
    forget(&c->source);
    *c = (struct credentials){0};
}

void credentials_wipe(struct buf *b)
{
    if (b->ptr != NULL)
        explicit_bzero(b->ptr, b->cap);
    buf_fini(b);
}

static char *text_of(struct slice s)
{
    char *copy = mem_alloc(s.len + 1);

    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

static void replace(char **text, struct slice by)
{
    char *copy = text_of(by);

    forget(text);
    *text = copy;
}

static void fill_gaps(struct credentials *c)
{
    char **const texts[] = {&c->access_key_id, &c->secret_access_key, &c->session_token, &c->region,
                            &c->source};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (*texts[i] == NULL)
            *texts[i] = mem_strdup("");
}

static bool is_visible(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~')
            return false;
    return true;
}

int credentials_set(struct credentials *c, struct slice access_key_id,
                    struct slice secret_access_key, struct slice session_token, const char *where,
                    struct err *err)
{
    const struct {
        const char *name;
        struct slice text;
        bool needed;
    } parts[] = {{"access key id", access_key_id, true},
                 {"secret access key", secret_access_key, true},
                 {"session token", session_token, false}};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].needed && parts[i].text.len == 0)
            return err_set(err, ERR_CONFIG, "%s: the %s is missing", where, parts[i].name);
        if (!is_visible(parts[i].text))
            return err_set(err, ERR_CONFIG,
                           "%s: the %s holds a blank or something else that is no visible ASCII",
                           where, parts[i].name);
    }
    replace(&c->access_key_id, access_key_id);
    replace(&c->secret_access_key, secret_access_key);
    replace(&c->session_token, session_token);
    fill_gaps(c);
    return 0;
}

void credentials_set_region(struct credentials *c, struct slice region)
{
    replace(&c->region, region);
}

void credentials_set_source(struct credentials *c, const char *format, ...)
{
    char words[SOURCE_MAX_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    replace(&c->source, slice_str(words));
}

enum { FIELDS = 7 };

void credentials_pack(struct buf *to, const struct credentials *c)
{
    pack_array(to, FIELDS);
    pack_str(to, slice_str(c->access_key_id));
    pack_str(to, slice_str(c->secret_access_key));
    pack_str(to, slice_str(c->session_token));
    pack_str(to, slice_str(c->region));
    pack_str(to, slice_str(c->source));
    pack_u64(to, c->expires_wall_ms);
    pack_u64(to, c->expires_mono_ms);
}

bool credentials_unpack(struct slice packed, struct credentials *c)
{
    struct unpack u = unpack_over(packed);

    *c = (struct credentials){0};
    if (unpack_array(&u) != FIELDS)
        return false;
    c->access_key_id = text_of(unpack_str(&u));
    c->secret_access_key = text_of(unpack_str(&u));
    c->session_token = text_of(unpack_str(&u));
    c->region = text_of(unpack_str(&u));
    c->source = text_of(unpack_str(&u));
    c->expires_wall_ms = unpack_u64(&u);
    c->expires_mono_ms = unpack_u64(&u);
    if (unpack_done(&u))
        return true;
    credentials_fini(c);
    return false;
}

bool credentials_same_keys(const struct credentials *a, const struct credentials *b)
{
    return a->access_key_id != NULL && b->access_key_id != NULL &&
           strcmp(a->access_key_id, b->access_key_id) == 0 &&
           strcmp(a->secret_access_key, b->secret_access_key) == 0 &&
           strcmp(a->session_token, b->session_token) == 0;
}
