#include "aws/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    FILE_MAX_BYTES = 1024 * 1024, /* nobody's credentials file is larger; a wrong path may be */
};

/* What tells that a file is another than it was. */
struct file_stamp {
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct credentials_store {
    struct credentials now;
    char *setting_id, *setting_secret, *setting_token, *profile;
    bool profile_chosen;                  /* by a setting, and so not allowed to be absent */
    char *credentials_path, *config_path; /* "" = no home */
    struct file_stamp credentials_stamp, config_stamp;
    uint64_t looked_mono_ms;
};

static void forget(char **secret)
{
    if (*secret != NULL)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

static void credentials_fini(struct credentials *c)
{
    forget(&c->access_key_id);
    forget(&c->secret_access_key);
    forget(&c->session_token);
    free(c->region);
    *c = (struct credentials){0};
}

static void wipe(struct buf *b)
{
    if (b->ptr != NULL)
        explicit_bzero(b->ptr, b->cap);
    buf_fini(b);
}

/* ---- sources: 1 = found, 0 = nothing there, -1 = configured but broken ---- */

static int from_settings(const struct credentials_store *s, struct credentials *found,
                         struct err *err)
{
    bool id = s->setting_id[0] != '\0', secret = s->setting_secret[0] != '\0';

    if (!id && !secret)
        return 0;
    if (!id || !secret)
        return err_set(err, ERR_CONFIG, "%s is set and %s is not: set both, or neither",
                       id ? "aws.access_key_id (AWS_ACCESS_KEY_ID)"
                          : "aws.secret_access_key (AWS_SECRET_ACCESS_KEY)",
                       id ? "aws.secret_access_key (AWS_SECRET_ACCESS_KEY)"
                          : "aws.access_key_id (AWS_ACCESS_KEY_ID)");
    found->access_key_id = mem_strdup(s->setting_id);
    found->secret_access_key = mem_strdup(s->setting_secret);
    found->session_token = mem_strdup(s->setting_token);
    return 1;
}

/* 1 = read, 0 = no such file. */
static int read_file(const char *path, struct buf *to, struct err *err)
{
    if (path[0] == '\0')
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : err_sys(err, "open %s", path);
    for (;;) {
        enum { STEP = 16 * 1024 };
        /* Grown by hand: a realloc would leave a copy of the secrets behind. */
        if (to->cap - to->len < STEP) {
            struct buf bigger = {0};
            (void)buf_reserve(&bigger, to->cap * 2 + STEP);
            buf_add_slice(&bigger, buf_slice(to));
            wipe(to);
            *to = bigger;
        }
        ssize_t got = read(fd, to->ptr + to->len, STEP);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || to->len > FILE_MAX_BYTES) {
            int failed = got < 0    ? err_sys(err, "read %s", path)
                         : got != 0 ? err_set(err, ERR_CONFIG, "%s is too long", path)
                                    : 0;
            close(fd);
            return failed != 0 ? -1 : 1;
        }
        to->len += (size_t)got;
    }
}

/* A profile's keys, borrowed from the file's text. */
struct profile {
    bool present;
    struct slice id, secret, token, region;
    struct slice unsupported; /* a key that asks for a source that is not supported */
};

static bool is_unsupported(struct slice key)
{
    static const char *const names[] = {"role_arn", "credential_process", "credential_source",
                                        "web_identity_token_file", "source_profile"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_eq_nocase(key, slice_str(names[i])))
            return true;
    return slice_starts_nocase(key, SLICE("sso_"));
}

/* [name] in the credentials file; [profile name] in the other, but [default] there too. */
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

/* A comment begins a line, or follows a blank within one. */
static struct slice without_comment(struct slice value)
{
    for (size_t i = 1; i < value.len; i++)
        if ((value.ptr[i] == '#' || value.ptr[i] == ';') &&
            (value.ptr[i - 1] == ' ' || value.ptr[i - 1] == '\t'))
            return slice_trim(slice_head(value, i));
    return value;
}

static struct profile find_profile(struct slice text, struct slice name, bool is_config)
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
        /* Indented lines belong to a nested setting (s3 = ...). */
        if (!inside || raw.ptr[0] == ' ' || raw.ptr[0] == '\t' ||
            !slice_cut(line, '=', &key, &value))
            continue;
        key = slice_trim(key);
        value = without_comment(slice_trim(value));
        if (slice_eq_nocase(key, SLICE("aws_access_key_id")))
            p.id = value;
        else if (slice_eq_nocase(key, SLICE("aws_secret_access_key")))
            p.secret = value;
        else if (slice_eq_nocase(key, SLICE("aws_session_token")))
            p.token = value;
        else if (slice_eq_nocase(key, SLICE("region")))
            p.region = value;
        else if (is_unsupported(key))
            p.unsupported = key;
    }
    return p;
}

static char *dup_slice(struct slice s)
{
    char *copy = mem_alloc(s.len + 1);

    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

static int from_profiles(const struct credentials_store *s, const struct profile *first,
                         const struct profile *second, struct credentials *found, struct err *err)
{
    const struct profile *p = first->id.len > 0 || first->secret.len > 0 ? first : second;
    const char *path = p == first ? s->credentials_path : s->config_path;
    struct slice region = second->region.len > 0 ? second->region : first->region;

    found->region = dup_slice(region);
    if (p->id.len == 0 && p->secret.len == 0) {
        struct slice key = first->unsupported.len > 0 ? first->unsupported : second->unsupported;
        if (key.len > 0)
            return err_set(err, ERR_CONFIG,
                           "the AWS profile \"%s\" uses %.*s, which is not supported: give it "
                           "aws_access_key_id and aws_secret_access_key",
                           s->profile, SLICE_ARGS(key));
        if (s->profile_chosen && !first->present && !second->present)
            return err_set(err, ERR_CONFIG, "there is no AWS profile \"%s\" in %s or %s",
                           s->profile, s->credentials_path, s->config_path);
        return 0;
    }
    if (p->id.len == 0 || p->secret.len == 0)
        return err_set(err, ERR_CONFIG, "the AWS profile \"%s\" in %s lacks %s", s->profile, path,
                       p->id.len == 0 ? "aws_access_key_id" : "aws_secret_access_key");
    found->access_key_id = dup_slice(p->id);
    found->secret_access_key = dup_slice(p->secret);
    found->session_token = dup_slice(p->token);
    return 1;
}

static int from_shared_files(const struct credentials_store *s, struct credentials *found,
                             struct err *err)
{
    struct buf credentials = {0}, config = {0};
    int result = -1;

    if (read_file(s->credentials_path, &credentials, err) >= 0 &&
        read_file(s->config_path, &config, err) >= 0) {
        struct slice name = slice_str(s->profile);
        struct profile first = find_profile(buf_slice(&credentials), name, false);
        struct profile second = find_profile(buf_slice(&config), name, true);
        result = from_profiles(s, &first, &second, found, err);
    }
    wipe(&credentials);
    wipe(&config);
    return result;
}

typedef int source(const struct credentials_store *s, struct credentials *found, struct err *err);

static source *const sources[] = {from_settings, from_shared_files};

/* ---- the store ---- */

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

static bool same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

/* 1 = there are others now, 0 = the same as before, -1 = none, or broken; then the old stay. */
static int load(struct credentials_store *s, struct err *err)
{
    struct credentials found = {0};
    int result = 0;

    /* Before the files are read: a change in between is seen next time. */
    s->credentials_stamp = stamp_of(s->credentials_path);
    s->config_stamp = stamp_of(s->config_path);
    for (size_t i = 0; result == 0 && i < sizeof sources / sizeof sources[0]; i++) {
        credentials_fini(&found);
        result = sources[i](s, &found, err);
    }
    if (result == 0)
        result = err_set(err, ERR_CONFIG,
                         "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                         "aws.access_key_id and aws.secret_access_key, or ~/.aws/credentials");
    if (result < 0 || (same_text(found.access_key_id, s->now.access_key_id) &&
                       same_text(found.secret_access_key, s->now.secret_access_key) &&
                       same_text(found.session_token, s->now.session_token))) {
        credentials_fini(&found);
        return result < 0 ? -1 : 0;
    }
    found.generation = s->now.generation + 1;
    if (found.region == NULL)
        found.region = mem_strdup("");
    credentials_fini(&s->now);
    s->now = found;
    return 1;
}

static char *home_file(const char *variable, const char *name)
{
    const char *path = getenv(variable), *home = getenv("HOME");
    struct buf joined = {0};

    if (path != NULL && path[0] != '\0')
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

struct credentials_store *credentials_create(const struct config *config, struct err *err)
{
    struct credentials_store *s = mem_zero(1, sizeof *s);

    s->setting_id = mem_strdup(config->aws.access_key_id);
    s->setting_secret = mem_strdup(config->aws.secret_access_key);
    s->setting_token = mem_strdup(config->aws.session_token);
    s->profile_chosen = config->aws.profile[0] != '\0';
    s->profile = mem_strdup(s->profile_chosen ? config->aws.profile : "default");
    s->credentials_path = home_file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    s->config_path = home_file("AWS_CONFIG_FILE", "config");
    if (load(s, err) < 0) {
        credentials_destroy(s);
        return NULL;
    }
    return s;
}

void credentials_destroy(struct credentials_store *s)
{
    if (s == NULL)
        return;
    credentials_fini(&s->now);
    forget(&s->setting_id);
    forget(&s->setting_secret);
    forget(&s->setting_token);
    free(s->profile);
    free(s->credentials_path);
    free(s->config_path);
    free(s);
}

const struct credentials *credentials_now(struct credentials_store *s, uint64_t now_mono_ms)
{
    if (s->looked_mono_ms == 0)
        s->looked_mono_ms = now_mono_ms;
    if (now_mono_ms - s->looked_mono_ms >= CREDENTIALS_LOOK_MS) {
        struct file_stamp credentials = stamp_of(s->credentials_path),
                          config = stamp_of(s->config_path);
        s->looked_mono_ms = now_mono_ms;
        if (!same_stamp(&credentials, &s->credentials_stamp) ||
            !same_stamp(&config, &s->config_stamp))
            (void)credentials_renew(s);
    }
    return &s->now;
}

bool credentials_renew(struct credentials_store *s)
{
    struct err err = {0};
    int result = load(s, &err);

    if (result < 0)
        log_err(&err, "the AWS credentials cannot be read again; the ones at hand stay in use");
    else if (result > 0)
        log_info("the AWS credentials have changed; new requests use the new ones");
    return result > 0;
}
