#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/internal.h"
#include "store/templates.h"

#define DOMAIN SLICE("mg.example.com")
#define NOW_US UINT64_C(1764000000000000)

static char folder[64];

static struct store *open_store(enum store_mode mode)
{
    struct err err = {0};
    struct store *s = store_open(folder, mode, &err);

    if (s == NULL)
        print_error("%s\n", err.text);
    assert_non_null(s);
    return s;
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/postern-templates-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[100];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static enum answer_verdict change(struct store_txn *t, struct record_template r)
{
    enum answer_verdict verdict = ANSWER_MORE;
    struct buf words = {0};
    struct err err = {0};

    r.domain = r.domain.len > 0 ? r.domain : DOMAIN;
    assert_int_equal(template_change(t, &r, NOW_US, &verdict, &words, &err), 0);
    assert_true((verdict == ANSWER_OK) == (words.len == 0));
    buf_fini(&words);
    return verdict;
}

static enum answer_verdict create(struct store_txn *t, const char *name, const char *content)
{
    return change(t, (struct record_template){.change = TEMPLATE_CREATE,
                                              .name = slice_str(name),
                                              .tag = content == NULL ? slice_none() : SLICE("v1"),
                                              .given = content == NULL ? 0 : TEMPLATE_CONTENT,
                                              .content = slice_str(content)});
}

static enum answer_verdict version(struct store_txn *t, enum template_change what, const char *tag,
                                   const char *content, uint32_t given)
{
    return change(t, (struct record_template){.change = (uint32_t)what,
                                              .name = SLICE("a"),
                                              .tag = slice_str(tag),
                                              .new_tag = SLICE("copy"),
                                              .given = given,
                                              .content = slice_str(content)});
}

static void is_active(struct store_txn *t, const char *tag)
{
    struct template_row row;

    assert_true(template_get(t, DOMAIN, SLICE("a"), &row));
    assert_true(slice_eq(row.active, slice_str(tag)));
}

static void has_content(struct store_txn *t, const char *tag, const char *content)
{
    struct template_version v;

    assert_int_equal(template_version_get(t, DOMAIN, SLICE("a"), slice_str(tag), &v),
                     content != NULL);
    if (content == NULL)
        return;
    assert_true(slice_eq(v.content, slice_str(content)));
    assert_int_equal(v.id.len, 36);
    assert_int_equal(v.created_us, NOW_US);
}

static void no_problem(void *arg, const char *words)
{
    (void)arg;
    fail_msg("%s", words);
}

static bool add_name(void *arg, const struct template_row *row)
{
    struct buf *to = arg;

    buf_add_slice(to, row->name);
    buf_add_byte(to, ' ');
    return to->len < 4;
}

static bool add_tag(void *arg, const struct template_version *v)
{
    buf_add_slice(arg, v->tag);
    buf_add_byte(arg, ' ');
    return true;
}

static void lists(struct store_txn *t, const char *past, bool backwards, const char *names)
{
    struct buf seen = {0};

    template_each(t, DOMAIN, slice_str(past), backwards, add_name, &seen);
    assert_string_equal(buf_cstr(&seen), names);
    buf_fini(&seen);
}

static void versions_are_made_changed_copied_and_deleted(void **unused)
{
    struct store *s = open_store(STORE_WRITE);
    struct err err = {0};
    struct buf tags = {0};

    (void)unused;
    struct store_txn *t = store_begin_write(s, &err);
    assert_int_equal(create(t, "a", "one"), ANSWER_OK);
    assert_int_equal(create(t, "a", "one"), ANSWER_REFUSED);
    is_active(t, "v1");
    has_content(t, "v1", "one");
    assert_int_equal(version(t, TEMPLATE_VERSION_CREATE, "v2", "two", TEMPLATE_CONTENT), ANSWER_OK);
    assert_int_equal(version(t, TEMPLATE_VERSION_CREATE, "v2", "2", TEMPLATE_CONTENT),
                     ANSWER_REFUSED);
    is_active(t, "v1");
    assert_int_equal(version(t, TEMPLATE_VERSION_UPDATE, "v2", "zwei", TEMPLATE_CONTENT),
                     ANSWER_OK);
    has_content(t, "v2", "zwei");
    assert_int_equal(version(t, TEMPLATE_VERSION_UPDATE, "v2", "", TEMPLATE_ACTIVE), ANSWER_OK);
    has_content(t, "v2", "zwei");
    is_active(t, "v2");
    assert_int_equal(version(t, TEMPLATE_VERSION_UPDATE, "v9", "", TEMPLATE_ACTIVE),
                     ANSWER_NOT_FOUND);
    assert_int_equal(version(t, TEMPLATE_VERSION_COPY, "v2", "", 0), ANSWER_OK);
    assert_int_equal(version(t, TEMPLATE_VERSION_COPY, "v1", "", 0), ANSWER_OK);
    has_content(t, "copy", "one");
    template_version_each(t, DOMAIN, SLICE("a"), slice_none(), false, add_tag, &tags);
    assert_string_equal(buf_cstr(&tags), "copy v1 v2 ");
    assert_int_equal(version(t, TEMPLATE_VERSION_DELETE, "v2", "", 0), ANSWER_OK);
    has_content(t, "v2", NULL);
    is_active(t, "");
    template_check(t, no_problem, NULL);
    assert_int_equal(store_commit(t, &err), 0);
    store_close(s);
    s = open_store(STORE_READ);
    t = store_begin_read(s, &err);
    has_content(t, "v1", "one");
    template_check(t, no_problem, NULL);
    store_end_read(t);
    store_close(s);
    buf_fini(&tags);
}

static void templates_are_listed_both_ways_and_deleted_with_their_versions(void **unused)
{
    struct store *s = open_store(STORE_WRITE);
    struct template_row row;
    struct err err = {0};

    (void)unused;
    struct store_txn *t = store_begin_write(s, &err);
    static const char *const names[] = {"b", "a", "ab", "c"};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(create(t, names[i], i == 3 ? NULL : "x"), ANSWER_OK);
    assert_int_equal(change(t, (struct record_template){.domain = SLICE("other.example"),
                                                        .change = TEMPLATE_CREATE,
                                                        .name = SLICE("zz")}),
                     ANSWER_OK);
    lists(t, "", false, "a ab ");
    lists(t, "ab", false, "b c ");
    lists(t, "c", false, "");
    lists(t, "", true, "c b ");
    lists(t, "b", true, "ab a ");
    lists(t, "a", true, "");
    assert_int_equal(version(t, TEMPLATE_DELETE, "", "", 0), ANSWER_OK);
    assert_false(template_get(t, DOMAIN, SLICE("a"), &row));
    has_content(t, "v1", NULL);
    struct template_version v;
    assert_true(template_version_get(t, DOMAIN, SLICE("ab"), SLICE("v1"), &v));
    assert_int_equal(version(t, TEMPLATE_DELETE, "", "", 0), ANSWER_NOT_FOUND);
    template_check(t, no_problem, NULL);
    assert_int_equal(version(t, TEMPLATE_CLEAR, "", "", 0), ANSWER_OK);
    lists(t, "", false, "");
    assert_false(template_version_get(t, DOMAIN, SLICE("ab"), SLICE("v1"), &v));
    assert_true(template_get(t, SLICE("other.example"), SLICE("zz"), &row));
    template_check(t, no_problem, NULL);
    store_abort(t);
    store_close(s);
}

static void what_an_httpd_may_not_say_is_refused(void **unused)
{
    static char much[TEMPLATE_CONTENT_BYTES + 1];
    struct store *s = open_store(STORE_WRITE);
    char name[TEMPLATE_NAME_BYTES + 2] = {0};
    struct err err = {0};

    (void)unused;
    struct store_txn *t = store_begin_write(s, &err);
    memset(name, 'x', TEMPLATE_NAME_BYTES + 1);
    memset(much, 'x', sizeof much);
    assert_int_equal(create(t, name, "x"), ANSWER_REFUSED);
    name[TEMPLATE_NAME_BYTES] = 0;
    assert_int_equal(create(t, name, "x"), ANSWER_OK);
    assert_int_equal(create(t, "", "x"), ANSWER_REFUSED);
    assert_int_equal(create(t, "A", "x"), ANSWER_REFUSED);
    assert_int_equal(create(t, "a\n", "x"), ANSWER_REFUSED);
    assert_int_equal(create(t, "a\xff", "x"), ANSWER_REFUSED);
    assert_int_equal(create(t, "ä b", "x"), ANSWER_OK);
    const struct record_template bad[] = {
        {.change = 0, .name = SLICE("a")},
        {.change = TEMPLATE_VERSION_COPY + 1, .name = SLICE("a"), .tag = SLICE("v")},
        {.change = TEMPLATE_CREATE, .name = SLICE("a"), .given = TEMPLATE_CONTENT},
        {.change = TEMPLATE_CREATE, .name = slice_of("a\0b", 3)},
        {.change = TEMPLATE_CREATE, .name = SLICE("a"), .content = slice_of(much, sizeof much)},
        {.change = TEMPLATE_CREATE,
         .name = SLICE("a"),
         .description = slice_of(much, TEMPLATE_WORDS_BYTES + 1)},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(change(t, bad[i]), ANSWER_REFUSED);
    store_abort(t);
    store_close(s);
}

static void there_are_no_more_than_there_may_be(void **unused)
{
    struct store *s = open_store(STORE_WRITE);
    struct err err = {0};
    char name[32];

    (void)unused;
    struct store_txn *t = store_begin_write(s, &err);
    for (int i = 0; i < TEMPLATES_MAX; i++) {
        (void)snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(create(t, i == 0 ? "a" : name, "x"), ANSWER_OK);
    }
    assert_int_equal(create(t, "one-more", "x"), ANSWER_LIMIT);
    for (int i = 1; i < TEMPLATE_VERSIONS_MAX; i++) {
        (void)snprintf(name, sizeof name, "w%d", i);
        assert_int_equal(version(t, TEMPLATE_VERSION_CREATE, name, "x", TEMPLATE_CONTENT),
                         ANSWER_OK);
    }
    assert_int_equal(version(t, TEMPLATE_VERSION_CREATE, "w", "x", TEMPLATE_CONTENT), ANSWER_LIMIT);
    assert_int_equal(version(t, TEMPLATE_VERSION_COPY, "v1", "", 0), ANSWER_LIMIT);
    store_abort(t);
    store_close(s);
}

/* As one that was made before there were templates. */
static void a_store_without_their_databases_gets_them(void **unused)
{
    struct store *s = open_store(STORE_WRITE);
    struct err err = {0};

    (void)unused;
    struct store_txn *t = store_begin_write(s, &err);
    assert_int_equal(create(t, "kept", "x"), ANSWER_OK);
    assert_int_equal(mdb_drop(t->mdb, s->dbi[DB_TEMPLATES], 1), MDB_SUCCESS);
    assert_int_equal(mdb_drop(t->mdb, s->dbi[DB_TEMPLATE_VERSIONS], 1), MDB_SUCCESS);
    assert_int_equal(mdb_txn_commit(t->mdb), MDB_SUCCESS);
    t->mdb = NULL;
    store_close(s);
    assert_null(store_open(folder, STORE_READ, &err)); /* nobody has made them yet */
    s = open_store(STORE_WRITE);
    t = store_begin_write(s, &err);
    assert_int_equal(create(t, "a", "one"), ANSWER_OK);
    has_content(t, "v1", "one");
    store_abort(t);
    store_close(s);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        EACH(versions_are_made_changed_copied_and_deleted),
        EACH(templates_are_listed_both_ways_and_deleted_with_their_versions),
        EACH(what_an_httpd_may_not_say_is_refused),
        EACH(there_are_no_more_than_there_may_be),
        EACH(a_store_without_their_databases_gets_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
