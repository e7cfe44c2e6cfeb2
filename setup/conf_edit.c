#include "setup/conf_edit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/digest.h"
#include "base/mem.h"

/* ---- tokens ---- */

enum token_kind {
    TOKEN_END,
    TOKEN_WORD,
    TOKEN_TEXT,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_EQUALS,
    TOKEN_OTHER
};

struct token {
    enum token_kind kind;
    size_t begin, end;
};

struct scanner {
    const uint8_t *ptr;
    size_t len, at;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_at(const struct scanner *s, const char *mark)
{
    size_t len = strlen(mark);

    return s->len - s->at >= len && memcmp(s->ptr + s->at, mark, len) == 0;
}

static void skip_line(struct scanner *s)
{
    while (s->at < s->len && s->ptr[s->at] != '\n')
        s->at++;
}

static void skip_passed_over(struct scanner *s)
{
    while (s->at < s->len) {
        if (is_blank(s->ptr[s->at])) {
            s->at++;
        } else if (s->ptr[s->at] == '#' || is_at(s, "//")) {
            skip_line(s);
        } else if (is_at(s, "/*")) {
            s->at += 2;
            while (s->at < s->len && !is_at(s, "*/"))
                s->at++;
            s->at = s->len - s->at < 2 ? s->len : s->at + 2;
        } else {
            return;
        }
    }
}

static struct token next_token(struct scanner *s)
{
    static const char specials[] = "{}=(),+\"'#";
    struct token t = {TOKEN_END, 0, 0};

    skip_passed_over(s);
    t.begin = s->at;
    if (s->at >= s->len) {
        t.end = s->at;
        return t;
    }
    uint8_t c = s->ptr[s->at++];
    switch (c) {
    case '{':
        t.kind = TOKEN_OPEN;
        break;
    case '}':
        t.kind = TOKEN_CLOSE;
        break;
    case '=':
        t.kind = TOKEN_EQUALS;
        break;
    case '"':
    case '\'':
        t.kind = TOKEN_TEXT;
        while (s->at < s->len && s->ptr[s->at] != c)
            s->at += s->ptr[s->at] == '\\' && s->len - s->at > 1 ? 2 : 1;
        s->at += s->at < s->len;
        break;
    default:
        t.kind = strchr(specials, c) != NULL ? TOKEN_OTHER : TOKEN_WORD;
        while (t.kind == TOKEN_WORD && s->at < s->len && !is_blank(s->ptr[s->at]) &&
               strchr(specials, s->ptr[s->at]) == NULL)
            s->at++;
        break;
    }
    t.end = s->at;
    return t;
}

/* ---- where things stand ---- */

struct place {
    bool has_section, has_key;
    size_t title_begin, title_end; /* with its quotes */
    size_t body_begin, body_end;   /* between the braces; outside of all, the whole file */
    size_t value_begin, value_end;
};

static bool is_word(const struct scanner *s, struct token t, const char *word)
{
    return t.kind == TOKEN_WORD &&
           slice_eq(slice_of(s->ptr + t.begin, t.end - t.begin), slice_str(word));
}

static bool is_title(const struct scanner *s, struct token t, const char *title)
{
    size_t quotes = t.kind == TOKEN_TEXT ? 1 : 0;

    return (t.kind == TOKEN_TEXT || t.kind == TOKEN_WORD) && t.end - t.begin >= 2 * quotes &&
           slice_eq_nocase(slice_of(s->ptr + t.begin + quotes, t.end - t.begin - 2 * quotes),
                           slice_str(title));
}

/* Behind "{": to its "}", or the end. Answers where that is. */
static size_t skip_braces(struct scanner *s)
{
    for (size_t depth = 1;;) {
        struct token t = next_token(s);
        if (t.kind == TOKEN_OPEN)
            depth++;
        if (t.kind == TOKEN_END || (t.kind == TOKEN_CLOSE && --depth == 0))
            return t.begin;
    }
}

/* Behind "=". */
static void take_value(struct scanner *s, struct place *p)
{
    struct token t = next_token(s);

    p->value_begin = t.begin;
    if (t.kind == TOKEN_OPEN)
        (void)skip_braces(s);
    p->value_end = s->at;
}

/* The assignments of one body, up to its end. */
static void find_key(struct scanner *s, const char *key, struct place *p)
{
    while (s->at < p->body_end) {
        struct token name = next_token(s);
        size_t behind = s->at;
        struct token sign = next_token(s);
        if (sign.kind == TOKEN_OTHER) /* += */
            sign = next_token(s);
        if (sign.kind == TOKEN_EQUALS) {
            struct place here = {0};
            take_value(s, &here);
            if (is_word(s, name, key) && name.begin < p->body_end) {
                p->has_key = true;
                p->value_begin = here.value_begin;
                p->value_end = here.value_end;
                return;
            }
        } else if (sign.kind == TOKEN_OPEN) {
            (void)skip_braces(s);
        } else if (sign.kind == TOKEN_TEXT || sign.kind == TOKEN_WORD) {
            if (next_token(s).kind == TOKEN_OPEN)
                (void)skip_braces(s);
            else
                s->at = behind;
        }
    }
}

static struct place find(const struct buf *text, const char *section, const char *title,
                         const char *key)
{
    struct scanner s = {text->ptr, text->len, 0};
    struct place p = {.body_end = text->len};

    if (section[0] == '\0') {
        p.has_section = true;
        find_key(&s, key, &p);
        return p;
    }
    for (struct token name = next_token(&s); name.kind != TOKEN_END; name = next_token(&s)) {
        struct token t = next_token(&s), found_title = {0};
        bool has_title = t.kind == TOKEN_TEXT || (t.kind == TOKEN_WORD && title != NULL);
        if (has_title) {
            found_title = t;
            t = next_token(&s);
        }
        if (t.kind == TOKEN_OTHER)
            t = next_token(&s);
        if (t.kind == TOKEN_EQUALS) {
            struct place passed = {0};
            take_value(&s, &passed);
            continue;
        }
        if (t.kind != TOKEN_OPEN)
            continue;
        p.body_begin = s.at;
        p.body_end = skip_braces(&s);
        if (!is_word(&s, name, section) || has_title != (title != NULL) ||
            (title != NULL && !is_title(&s, found_title, title)))
            continue;
        p.has_section = true;
        p.title_begin = found_title.begin;
        p.title_end = found_title.end;
        s.at = p.body_begin;
        find_key(&s, key, &p);
        return p;
    }
    return (struct place){0};
}

/* ---- changes ---- */

static void replace_span(struct buf *text, size_t begin, size_t end, struct slice with)
{
    struct buf fresh = {0};

    buf_add(&fresh, text->ptr, begin);
    buf_add_slice(&fresh, with);
    if (end < text->len)
        buf_add(&fresh, text->ptr + end, text->len - end);
    buf_reset(text);
    buf_add_slice(text, buf_slice(&fresh));
    buf_fini(&fresh);
}

/* "    # key = …", within the body: where the line begins and ends, and how far it is indented. */
static bool find_commented(const struct buf *text, const struct place *p, const char *key,
                           size_t *line_end, size_t *indent)
{
    size_t at = p->body_begin;

    while (at < p->body_end) {
        size_t begin = at, end = at;
        while (end < p->body_end && text->ptr[end] != '\n')
            end++;
        struct slice line = slice_of(text->ptr + begin, end - begin), rest = line;
        size_t blanks = 0;
        while (blanks < rest.len && (rest.ptr[blanks] == ' ' || rest.ptr[blanks] == '\t'))
            blanks++;
        rest = slice_from(rest, blanks);
        if (rest.len > 0 && rest.ptr[0] == '#') {
            rest = slice_trim(slice_from(rest, 1));
            struct slice name = slice_head(rest, strlen(key));
            if (slice_eq(name, slice_str(key)) &&
                slice_starts(slice_trim(slice_from(rest, name.len)), SLICE("="))) {
                *line_end = end;
                *indent = blanks;
                return true;
            }
        }
        at = end + 1;
    }
    return false;
}

static void insert(struct buf *text, const struct place *p, const char *key, const char *value,
                   bool in_section)
{
    struct buf line = {0};
    size_t at, indent;

    if (find_commented(text, p, key, &at, &indent)) {
        buf_printf(&line, "\n%*s%s = %s", (int)indent, "", key, value);
        replace_span(text, at, at, buf_slice(&line));
    } else if (!in_section) {
        if (text->len > 0 && text->ptr[text->len - 1] != '\n')
            buf_add_byte(&line, '\n');
        buf_printf(&line, "%s = %s\n", key, value);
        replace_span(text, text->len, text->len, buf_slice(&line));
    } else {
        /* In front of the brace: on a line of its own if that has one. */
        at = p->body_end;
        while (at > p->body_begin && (text->ptr[at - 1] == ' ' || text->ptr[at - 1] == '\t'))
            at--;
        bool own_line = at > p->body_begin && text->ptr[at - 1] == '\n';
        if (own_line)
            buf_printf(&line, "    %s = %s\n", key, value);
        else
            buf_printf(&line, " %s = %s ", key, value);
        replace_span(text, at, own_line ? at : p->body_end, buf_slice(&line));
    }
    buf_fini(&line);
}

void conf_edit_set(struct buf *text, const char *section, const char *title, const char *key,
                   const char *value)
{
    struct place p = find(text, section, title, key);
    struct buf block = {0};

    if (p.has_key) {
        replace_span(text, p.value_begin, p.value_end, slice_str(value));
    } else if (p.has_section) {
        insert(text, &p, key, value, section[0] != '\0');
    } else {
        if (text->len > 0)
            buf_add_str(&block, text->ptr[text->len - 1] == '\n' ? "\n" : "\n\n");
        buf_printf(&block, "%s ", section);
        if (title != NULL) {
            conf_edit_quote(&block, slice_str(title));
            buf_add_byte(&block, ' ');
        }
        buf_printf(&block, "{\n    %s = %s\n}\n", key, value);
        replace_span(text, text->len, text->len, buf_slice(&block));
        buf_fini(&block);
    }
}

bool conf_edit_has(const struct buf *text, const char *section, const char *title, const char *key)
{
    return find(text, section, title, key).has_key;
}

bool conf_edit_retitle(struct buf *text, const char *section, const char *old_title,
                       const char *new_title)
{
    struct place p = find(text, section, old_title, "");
    struct buf quoted = {0};

    if (!p.has_section)
        return false;
    conf_edit_quote(&quoted, slice_str(new_title));
    replace_span(text, p.title_begin, p.title_end, buf_slice(&quoted));
    buf_fini(&quoted);
    return true;
}

void conf_edit_quote(struct buf *to, struct slice text)
{
    buf_add_byte(to, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            buf_add_byte(to, '\\');
        buf_add_byte(to, text.ptr[i]);
    }
    buf_add_byte(to, '"');
}

/* ---- the file ---- */

int conf_edit_read(const char *path, struct buf *text, struct err *err)
{
    FILE *f = fopen(path, "re");
    char bytes[4096];
    size_t got;

    if (f == NULL)
        return errno == ENOENT ? 0 : err_sys(err, "%s cannot be read", path);
    while ((got = fread(bytes, 1, sizeof bytes, f)) > 0)
        buf_add(text, bytes, got);
    int failed = ferror(f) ? err_sys(err, "%s cannot be read", path) : 0;
    (void)fclose(f);
    return failed;
}

static int write_whole(int fd, struct slice text, const char *path, struct err *err)
{
    while (text.len > 0) {
        ssize_t wrote = write(fd, text.ptr, text.len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return err_sys(err, "%s cannot be written", path);
        text = slice_from(text, (size_t)wrote);
    }
    return fsync(fd) == 0 ? 0 : err_sys(err, "%s cannot be synced", path);
}

/* A file of that name that was not there, with the owner and mode of the old one. */
static int write_new(const char *path, const struct stat *like, struct slice text, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno == EEXIST ? 1 : err_sys(err, "%s cannot be created", path);
    int failed = 0;
    if (like->st_uid != geteuid() || like->st_gid != getegid())
        failed = fchown(fd, like->st_uid, like->st_gid) == 0
                     ? 0
                     : err_sys(err, "%s cannot be given the old file's owner", path);
    if (failed == 0 && fchmod(fd, like->st_mode & 07777) != 0)
        failed = err_sys(err, "%s cannot be given the old file's mode", path);
    if (failed == 0)
        failed = write_whole(fd, text, path, err);
    (void)close(fd);
    if (failed != 0)
        (void)unlink(path);
    return failed;
}

static int keep_backup(const char *path, const struct stat *like, struct buf *backup,
                       struct err *err)
{
    enum { BACKUPS_MAX = 1000 };
    struct buf old = {0};
    int failed = conf_edit_read(path, &old, err);

    for (unsigned n = 0; failed == 0 && n < BACKUPS_MAX; n++) {
        buf_reset(backup);
        buf_printf(backup, "%s.bak", path);
        if (n > 0)
            buf_printf(backup, ".%u", n);
        failed = write_new(buf_cstr(backup), like, buf_slice(&old), err);
        if (failed != 1)
            break;
        failed = 0; /* there is one of that name: the next */
    }
    buf_fini(&old);
    return failed;
}

static void sync_folder(const char *path)
{
    char *folder = mem_strdup(path), *slash = strrchr(folder, '/');

    if (slash != NULL)
        slash[slash == folder] = '\0';
    int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    free(folder);
}

static int check_whole(const char *path, struct err *err)
{
    struct buf mistakes = {0};
    struct config *config = config_load(path, &mistakes);
    int failed = 0;

    if (config == NULL)
        failed = err_set(err, ERR_CONFIG, "the configuration would not be one to run with: %.*s",
                         SLICE_ARGS(buf_slice(&mistakes)));
    config_free(config);
    buf_fini(&mistakes);
    return failed;
}

int conf_edit_save(const char *path, const struct buf *text, struct buf *backup, struct err *err)
{
    struct stat like = {.st_mode = 0640, .st_uid = geteuid(), .st_gid = getegid()};
    char real[PATH_MAX];
    struct buf fresh = {0};
    uint32_t number;
    bool is_new = stat(path, &like) != 0;

    buf_reset(backup);
    if (is_new && errno != ENOENT)
        return err_sys(err, "%s cannot be looked at", path);
    if (!is_new && realpath(path, real) == NULL)
        return err_sys(err, "%s cannot be followed", path);
    const char *target = is_new ? path : real;
    digest_random(&number, sizeof number);
    buf_printf(&fresh, "%s.new.%08x", target, number);
    int failed = write_new(buf_cstr(&fresh), &like, buf_slice(text), err);
    if (failed == 0) {
        failed = check_whole(buf_cstr(&fresh), err);
        if (failed == 0 && !is_new)
            failed = keep_backup(target, &like, backup, err);
        if (failed == 0 && rename(buf_cstr(&fresh), target) != 0)
            failed = err_sys(err, "%s cannot be renamed to %s", buf_cstr(&fresh), target);
        if (failed == 0)
            sync_folder(target);
        else
            (void)unlink(buf_cstr(&fresh));
    }
    buf_fini(&fresh);
    return failed;
}
