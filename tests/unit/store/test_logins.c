/* tests/unit/store/test_logins.c - links that work once and soon, and sessions. */
#include "store/logins.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pack.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

enum { NOW_MS = 1000000, SESSION_MS = 3600000 };

struct fixture {
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct err err;
    struct buf words;
    enum answer_verdict verdict;
    uint32_t count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-logins-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open(f->dir, STORE_WRITE, &f->err);
    assert_non_null(f->store);
    f->t = store_begin_write(f->store, &f->err);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_abort(f->t);
    store_close(f->store);
    state_dir_remove(f->dir);
    buf_fini(&f->words);
    free(f);
    return 0;
}

static struct slice digest(uint8_t bytes[LOGIN_DIGEST_BYTES], unsigned number)
{
    memset(bytes, 0, LOGIN_DIGEST_BYTES);
    memcpy(bytes, &number, sizeof number);
    return slice_of(bytes, LOGIN_DIGEST_BYTES);
}

static enum answer_verdict ask(struct fixture *f, const struct record_control *r, uint64_t now_ms)
{
    buf_reset(&f->words);
    assert_int_equal(
        login_control(f->t, r, now_ms, SESSION_MS, &f->verdict, &f->count, &f->words, &f->err), 0);
    return f->verdict;
}

static enum answer_verdict make(struct fixture *f, unsigned ticket, uint32_t role, uint64_t now_ms)
{
    uint8_t bytes[LOGIN_DIGEST_BYTES];

    return ask(f,
               &(struct record_control){.verb = CONTROL_LOGIN,
                                        .who = SLICE("ada"),
                                        .role = role,
                                        .ticket = digest(bytes, ticket)},
               now_ms);
}

static enum answer_verdict use(struct fixture *f, unsigned ticket, unsigned session,
                               uint64_t now_ms)
{
    uint8_t bytes[LOGIN_DIGEST_BYTES], of_session[LOGIN_DIGEST_BYTES];

    return ask(f,
               &(struct record_control){.verb = CONTROL_SIGN_IN,
                                        .ticket = digest(bytes, ticket),
                                        .session = digest(of_session, session),
                                        .from = SLICE("192.0.2.7")},
               now_ms);
}

static bool find(struct fixture *f, unsigned session, uint64_t now_ms, struct session *found)
{
    uint8_t bytes[LOGIN_DIGEST_BYTES];

    (void)digest(bytes, session);
    return session_find(f->t, bytes, now_ms, found);
}

static bool is_good(struct fixture *f, unsigned ticket, uint64_t now_ms)
{
    uint8_t bytes[LOGIN_DIGEST_BYTES];

    (void)digest(bytes, ticket);
    return login_link_is_good(f->t, bytes, now_ms);
}

static void a_link_begins_one_session_with_its_role(void **state)
{
    struct fixture *f = *state;
    struct session s;

    assert_int_equal(make(f, 1, LOGIN_VIEWER, NOW_MS), ANSWER_OK);
    assert_false(find(f, 1, NOW_MS, &s)); /* a link is no session */
    assert_true(is_good(f, 1, NOW_MS));
    assert_false(is_good(f, 1, NOW_MS + LOGIN_LINK_MS));
    assert_false(is_good(f, 2, NOW_MS));
    assert_int_equal(use(f, 1, 7, NOW_MS + 1), ANSWER_OK);
    assert_true(slice_eq(buf_slice(&f->words), SLICE("ada")));
    assert_true(find(f, 7, NOW_MS + 2, &s));
    assert_int_equal(s.role, LOGIN_VIEWER);
    assert_true(slice_eq(s.name, SLICE("ada")));
    assert_false(is_good(f, 1, NOW_MS + 3));
    assert_int_equal(use(f, 1, 8, NOW_MS + 3), ANSWER_NOT_FOUND);
    assert_false(find(f, 8, NOW_MS + 3, &s));
    assert_false(find(f, 1, NOW_MS + 3, &s));
}

static void links_and_sessions_end_in_time(void **state)
{
    struct fixture *f = *state;
    struct session s;

    assert_int_equal(make(f, 1, LOGIN_OPERATOR, NOW_MS), ANSWER_OK);
    assert_int_equal(use(f, 1, 7, NOW_MS + LOGIN_LINK_MS), ANSWER_NOT_FOUND);
    assert_int_equal(use(f, 1, 7, NOW_MS + LOGIN_LINK_MS - 1), ANSWER_OK);
    uint64_t begun = NOW_MS + LOGIN_LINK_MS - 1;
    assert_true(find(f, 7, begun + SESSION_MS - 1, &s));
    assert_false(find(f, 7, begun + SESSION_MS, &s));
}

static void signing_out_ends_a_session(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[LOGIN_DIGEST_BYTES];
    struct session s;

    (void)make(f, 1, LOGIN_OPERATOR, NOW_MS);
    (void)use(f, 1, 7, NOW_MS);
    assert_true(find(f, 7, NOW_MS, &s));
    assert_int_equal(
        ask(f, &(struct record_control){.verb = CONTROL_SIGN_OUT, .session = digest(bytes, 7)},
            NOW_MS),
        ANSWER_OK);
    assert_false(find(f, 7, NOW_MS, &s));
    assert_int_equal(
        ask(f, &(struct record_control){.verb = CONTROL_SIGN_OUT, .session = SLICE("short")},
            NOW_MS),
        ANSWER_REFUSED);
}

static void there_is_a_limit_and_what_expired_makes_room(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < LOGIN_ROWS_MAX; i++)
        assert_int_equal(make(f, i + 1, LOGIN_VIEWER, NOW_MS), ANSWER_OK);
    assert_int_equal(make(f, 5000, LOGIN_VIEWER, NOW_MS + 1), ANSWER_LIMIT);
    assert_int_equal(make(f, 5000, LOGIN_VIEWER, NOW_MS + LOGIN_LINK_MS), ANSWER_OK);
    assert_int_equal(use(f, 5000, 1, NOW_MS + LOGIN_LINK_MS), ANSWER_OK);
}

static void what_is_no_login_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(make(f, 1, 0, NOW_MS), ANSWER_REFUSED);
    assert_int_equal(make(f, 1, 3, NOW_MS), ANSWER_REFUSED);
    assert_int_equal(ask(f,
                         &(struct record_control){.verb = CONTROL_LOGIN,
                                                  .role = LOGIN_OPERATOR,
                                                  .ticket = SLICE("short")},
                         NOW_MS),
                     ANSWER_REFUSED);
    assert_int_equal(
        ask(f, &(struct record_control){.verb = CONTROL_SIGN_IN, .ticket = SLICE("x")}, NOW_MS),
        ANSWER_NOT_FOUND);
}

static void a_session_tells_when_and_from_where_it_was_used(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[LOGIN_DIGEST_BYTES];
    struct session s;
    struct record_control seen = {
        .verb = CONTROL_SESSION_SEEN, .session = digest(bytes, 7), .from = SLICE("192.0.2.7")};

    (void)make(f, 1, LOGIN_OPERATOR, NOW_MS);
    (void)use(f, 1, 7, NOW_MS);
    assert_true(find(f, 7, NOW_MS, &s));
    assert_int_equal(s.seen_wall_ms, NOW_MS);
    assert_true(slice_eq(s.from, SLICE("192.0.2.7")));
    assert_false(session_is_news(&s, seen.from, NOW_MS + LOGIN_SEEN_EVERY_MS - 1));
    assert_false(session_is_news(&s, SLICE("192.0.2.8"), NOW_MS + LOGIN_MOVED_EVERY_MS - 1));
    assert_true(session_is_news(&s, SLICE("192.0.2.8"), NOW_MS + LOGIN_MOVED_EVERY_MS));

    assert_int_equal(ask(f, &seen, NOW_MS + 1), ANSWER_OK);
    assert_true(find(f, 7, NOW_MS + 1, &s));
    assert_int_equal(s.seen_wall_ms, NOW_MS); /* no news */
    assert_int_equal(ask(f, &seen, NOW_MS + LOGIN_SEEN_EVERY_MS), ANSWER_OK);
    assert_true(find(f, 7, NOW_MS + LOGIN_SEEN_EVERY_MS, &s));
    assert_int_equal(s.seen_wall_ms, NOW_MS + LOGIN_SEEN_EVERY_MS);
    assert_int_equal(s.since_wall_ms, NOW_MS);
    assert_int_equal(s.until_wall_ms, NOW_MS + SESSION_MS);
    assert_true(slice_eq(s.name, SLICE("ada")));

    seen.from = SLICE("2001:db8::1");
    uint64_t moved_ms = NOW_MS + LOGIN_SEEN_EVERY_MS + LOGIN_MOVED_EVERY_MS;
    assert_int_equal(ask(f, &seen, moved_ms), ANSWER_OK);
    assert_true(find(f, 7, moved_ms, &s));
    assert_true(slice_eq(s.from, seen.from));

    /* One that is over is not brought back. */
    assert_int_equal(ask(f, &seen, NOW_MS + SESSION_MS), ANSWER_OK);
    assert_false(find(f, 7, NOW_MS + SESSION_MS, &s));
    seen.session = digest(bytes, 8);
    assert_int_equal(ask(f, &seen, NOW_MS), ANSWER_OK);
    assert_false(find(f, 8, NOW_MS, &s));
}

struct seen {
    unsigned links, sessions;
    struct login last;
};

static bool note(void *arg, const struct login *l)
{
    struct seen *seen = arg;

    seen->links += l->is_link;
    seen->sessions += !l->is_link;
    seen->last = *l;
    return true;
}

static void who_is_signed_in_is_told_and_can_be_ended(void **state)
{
    struct fixture *f = *state;
    uint8_t both[2 * LOGIN_DIGEST_BYTES];
    struct seen seen = {0};
    struct session s;

    (void)make(f, 1, LOGIN_OPERATOR, NOW_MS);
    (void)make(f, 2, LOGIN_VIEWER, NOW_MS);
    (void)make(f, 3, LOGIN_VIEWER, NOW_MS);
    (void)use(f, 1, 0x04030201, NOW_MS);
    (void)use(f, 2, 8, NOW_MS);
    login_each(f->t, NOW_MS + 1, note, &seen);
    assert_int_equal(seen.links, 1);
    assert_int_equal(seen.sessions, 2);
    assert_string_equal(seen.last.id, "08000000");
    assert_int_equal(seen.last.session.role, LOGIN_VIEWER);

    seen = (struct seen){0};
    login_each(f->t, NOW_MS + LOGIN_LINK_MS, note, &seen);
    assert_int_equal(seen.links, 0); /* too old */

    (void)digest(both, 8);
    (void)digest(both + LOGIN_DIGEST_BYTES, 3);
    struct record_control end = {
        .verb = CONTROL_SESSIONS_END, .ids = slice_of(both, sizeof both), .who = SLICE("bob")};
    assert_int_equal(ask(f, &end, NOW_MS + 2), ANSWER_OK);
    assert_int_equal(f->count, 2);
    assert_false(find(f, 8, NOW_MS + 2, &s));
    assert_false(is_good(f, 3, NOW_MS + 2));
    assert_true(find(f, 0x04030201, NOW_MS + 2, &s));
    assert_int_equal(ask(f, &end, NOW_MS + 3), ANSWER_NOT_FOUND);
    end.ids = slice_of(both, sizeof both - 1);
    assert_int_equal(ask(f, &end, NOW_MS + 3), ANSWER_REFUSED);
    end.ids = slice_none();
    assert_int_equal(ask(f, &end, NOW_MS + 3), ANSWER_REFUSED);
}

/* What a version before wrote is still a session. */
static void a_row_of_version_1_is_read(void **state)
{
    struct fixture *f = *state;
    uint8_t key[1 + LOGIN_DIGEST_BYTES] = {'s'}, bytes[LOGIN_DIGEST_BYTES];
    struct buf row = {0};
    struct session s;

    memcpy(key + 1, digest(bytes, 7).ptr, LOGIN_DIGEST_BYTES);
    pack_array(&row, 5);
    pack_u64(&row, 1);
    pack_u64(&row, LOGIN_OPERATOR);
    pack_u64(&row, NOW_MS + SESSION_MS);
    pack_str(&row, SLICE("ada"));
    pack_u64(&row, NOW_MS);
    assert_int_equal(
        store_put(f->t, DB_LOGINS, slice_of(key, sizeof key), buf_slice(&row), &f->err), 0);
    buf_fini(&row);
    assert_true(find(f, 7, NOW_MS, &s));
    assert_int_equal(s.role, LOGIN_OPERATOR);
    assert_int_equal(s.seen_wall_ms, 0);
    assert_int_equal(s.from.len, 0);
    assert_true(session_is_news(&s, SLICE("192.0.2.7"), NOW_MS + LOGIN_SEEN_EVERY_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_link_begins_one_session_with_its_role, setup, teardown),
        cmocka_unit_test_setup_teardown(links_and_sessions_end_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(signing_out_ends_a_session, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_a_limit_and_what_expired_makes_room, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_no_login_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_tells_when_and_from_where_it_was_used, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_is_signed_in_is_told_and_can_be_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_of_version_1_is_read, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
