#include "aws/profiles.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "aws/credentials.h"
#include "base/mem.h"

/* ---- files ---- */

static struct file_stamp stamp_of(const char *path)
{
    struct stat st;

    if (path[0] == '\0' || stat(path, &st) != 0)
        return (struct file_stamp){0};
    return (struct file_stamp){st.st_ino, st.st_size, st.st_mtim};
}

static bool same_stamp(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

static char *named_or_at_home(const char *variable, const char *name, bool *is_named)
{
    const char *path = getenv(variable), *home = getenv("HOME");
    struct buf joined = {0};

    *is_named = path != NULL && path[0] != '\0';
    if (*is_named)
        return mem_strdup(path);
    if (home == NULL || home[0] == '\0') {
        const struct passwd *user = getpwuid(geteuid());
        home = user != NULL ? user->pw_dir : NULL;
    }
    if (home == NULL || home[0] == '\0')
        return mem_strdup("");
    buf_printf(&joined, "%s/.aws/%s", home, name);
    char *copy = mem_strdup(buf_cstr(&joined));
    buf_fini(&joined);
    return copy;
}

int profiles_read_file(const char *path, size_t most_bytes, struct buf *to, struct err *err)
{
    enum { STEP = 16 * 1024 };

    if (path[0] == '\0')
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(err, "open %s", path);
    for (;;) {
        /* Grown by hand: a realloc would leave a copy of the secrets behind. */
        if (to->cap - to->len < STEP) {
            struct buf bigger = {0};
            (void)buf_reserve(&bigger, to->cap * 2 + STEP);
            buf_add_slice(&bigger, buf_slice(to));
            credentials_wipe(to);
            *to = bigger;
        }
        ssize_t got = read(fd, to->ptr + to->len, STEP);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || to->len > most_bytes) {
            int failed = got < 0    ? err_sys(err, "read %s", path)
                         : got != 0 ? err_set(err, ERR_CONFIG, "%s is too long", path)
                                    : 0;
            close(fd);
            return failed != 0 ? -1 : 1;
        }
        to->len += (size_t)got;
    }
}

void profiles_init(struct profiles *p)
{
    *p = (struct profiles){0};
    p->credentials_path =
        named_or_at_home("AWS_SHARED_CREDENTIALS_FILE", "credentials", &p->credentials_are_named);
    p->config_path = named_or_at_home("AWS_CONFIG_FILE", "config", &p->config_is_named);
}

void profiles_forget(struct profiles *p)
{
    credentials_wipe(&p->credentials);
    credentials_wipe(&p->config);
}

void profiles_fini(struct profiles *p)
{
    profiles_forget(p);
    free(p->credentials_path);
    free(p->config_path);
    *p = (struct profiles){0};
}

/* In a container HOME is often root's, and we are not. */
static int read_one(const char *path, bool is_named, struct buf *to, struct err *err)
{
    struct err why = {0};

    if (profiles_read_file(path, PROFILES_MAX_BYTES, to, &why) >= 0 ||
        (!is_named && why.sys == EACCES))
        return 0;
    if (err != NULL)
        *err = why;
    return -1;
}

int profiles_read(struct profiles *p, struct err *err)
{
    profiles_forget(p);
    /* Before the files are read: a change in between is seen next time. */
    p->credentials_stamp = stamp_of(p->credentials_path);
    p->config_stamp = stamp_of(p->config_path);
    if (read_one(p->credentials_path, p->credentials_are_named, &p->credentials, err) == 0 &&
        read_one(p->config_path, p->config_is_named, &p->config, err) == 0)
        return 0;
    profiles_forget(p);
    return -1;
}

bool profiles_have_changed(const struct profiles *p)
{
    struct file_stamp credentials = stamp_of(p->credentials_path),
                      config = stamp_of(p->config_path);

    return !same_stamp(&credentials, &p->credentials_stamp) ||
           !same_stamp(&config, &p->config_stamp);
}

/* ---- what is in them ---- */

static bool is_section(struct slice line, struct slice profile, bool is_config)
{
    struct slice name;

    (void)slice_cut(slice_from(line, 1), ']', &name, &(struct slice){0});
    name = slice_trim(name);
    if (is_config && !slice_eq(name, SLICE("default"))) {
        if (!slice_starts(name, SLICE("profile ")) && !slice_starts(name, SLICE("profile\t")))
            return false;
        name = slice_trim(slice_from(name, sizeof "profile" - 1));
    }
    return slice_eq(name, profile);
}

static struct slice without_comment(struct slice value)
{
    for (size_t i = 1; i < value.len; i++)
        if ((value.ptr[i] == '#' || value.ptr[i] == ';') &&
            (value.ptr[i - 1] == ' ' || value.ptr[i - 1] == '\t'))
            return slice_trim(slice_head(value, i));
    return value;
}

static const struct {
    const char *name;
    size_t at;
} settings[] = {
    {"aws_access_key_id", offsetof(struct profile, access_key_id)},
    {"aws_secret_access_key", offsetof(struct profile, secret_access_key)},
    {"aws_session_token", offsetof(struct profile, session_token)},
    {"region", offsetof(struct profile, region)},
    {"role_arn", offsetof(struct profile, role_arn)},
    {"source_profile", offsetof(struct profile, source_profile)},
    {"credential_source", offsetof(struct profile, credential_source)},
    {"web_identity_token_file", offsetof(struct profile, web_identity_token_file)},
    {"role_session_name", offsetof(struct profile, role_session_name)},
    {"external_id", offsetof(struct profile, external_id)},
    {"duration_seconds", offsetof(struct profile, duration_seconds)},
    {"mfa_serial", offsetof(struct profile, mfa_serial)},
    {"credential_process", offsetof(struct profile, credential_process)},
};
enum { SETTINGS = sizeof settings / sizeof settings[0], KEYS = 3 };

static struct slice *setting_of(struct profile *p, size_t at)
{
    return (struct slice *)(void *)((char *)p + settings[at].at);
}

static void take_setting(struct profile *p, struct slice key, struct slice value)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (slice_eq_nocase(key, slice_str(settings[i].name))) {
            *setting_of(p, i) = value;
            return;
        }
    if (slice_starts_nocase(key, SLICE("sso_")) || slice_eq_nocase(key, SLICE("login_session")))
        p->unsupported = key;
}

static struct profile find_in(struct slice text, struct slice name, bool is_config)
{
    struct profile p = {0};
    bool inside = false;

    while (text.len > 0) {
        struct slice raw, key, value;
        (void)slice_cut(text, '\n', &raw, &text);
        struct slice line = slice_trim(raw);
        if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == ';')
            continue;
        if (line.ptr[0] == '[') {
            inside = is_section(line, name, is_config);
            p.present = p.present || inside;
            continue;
        }
        if (!inside || raw.ptr[0] == ' ' || raw.ptr[0] == '\t' ||
            !slice_cut(line, '=', &key, &value))
            continue;
        key = slice_trim(key);
        value = slice_trim(value);
        /* A program's arguments may hold anything. */
        if (!slice_eq_nocase(key, SLICE("credential_process")))
            value = without_comment(value);
        take_setting(&p, key, value);
    }
    return p;
}

void profiles_find(const struct profiles *p, struct slice name, struct profile *found)
{
    struct profile first = find_in(buf_slice(&p->credentials), name, false),
                   second = find_in(buf_slice(&p->config), name, true);
    bool keys_are_first = first.access_key_id.len > 0 || first.secret_access_key.len > 0;
    struct profile *keys = keys_are_first ? &first : &second;

    *found = (struct profile){.present = first.present || second.present};
    for (size_t i = 0; i < SETTINGS; i++) {
        struct profile *from = i < KEYS ? keys : setting_of(&first, i)->len > 0 ? &first : &second;
        *setting_of(found, i) = *setting_of(from, i);
    }
    if (found->access_key_id.len > 0 || found->secret_access_key.len > 0)
        found->keys_path = keys_are_first ? p->credentials_path : p->config_path;
    found->unsupported = first.unsupported.len > 0 ? first.unsupported : second.unsupported;
}
