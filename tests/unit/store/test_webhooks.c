#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pack.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/webhooks.h"
#include "tests/unit/store/state_dir.h"

#define NAME SLICE("mg.example.com")

enum { GROUPED = 120, MS = 1000 };
static const uint64_t now_ms = 1764100000000;
static const uint64_t retries_ms[] = {100, 2000, 30000};
enum { RETRIES = 3 };

struct fixture {
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct err err;
    struct buf words;
};

static void open_store(struct fixture *f)
{
    f->store = store_open(f->dir, STORE_WRITE, &f->err);
    assert_non_null(f->store);
    f->t = store_begin_write(f->store, &f->err);
    assert_non_null(f->t);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-webhooks-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_store(f);
    *state = f;
    return 0;
}

static void no_problem(void *arg, const char *words)
{
    (void)arg;
    fail_msg("%s", words);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    webhook_check(f->t, no_problem, NULL); /* whatever a test has done */
    store_abort(f->t);
    store_close(f->store);
    state_dir_remove(f->dir);
    buf_fini(&f->words);
    free(f);
    return 0;
}

static void commit(struct fixture *f)
{
    assert_int_equal(store_commit(f->t, &f->err), 0);
    f->t = store_begin_write(f->store, &f->err);
    assert_non_null(f->t);
}

static uint64_t rows(struct fixture *f, enum store_db db)
{
    MDB_stat stat;

    assert_int_equal(mdb_stat(f->t->mdb, f->store->dbi[db], &stat), MDB_SUCCESS);
    return stat.ms_entries;
}

/* urls: with spaces between. */
static enum answer_verdict change(struct fixture *f, enum webhook_change what, unsigned kinds,
                                  const char *urls)
{
    struct slice rest = slice_str(urls), one;
    enum answer_verdict verdict;
    struct buf list = {0}, packed = {0};
    size_t count = 0;

    for (; rest.len > 0; count++) {
        (void)slice_cut(rest, ' ', &one, &rest);
        pack_str(&list, one);
    }
    pack_array(&packed, count);
    buf_add_slice(&packed, buf_slice(&list));
    const struct record_webhook r = {
        .domain = NAME, .change = (uint32_t)what, .kinds = kinds, .urls = buf_slice(&packed)};
    buf_reset(&f->words);
    assert_int_equal(webhook_change(f->t, &r, &verdict, &f->words, &f->err), 0);
    buf_fini(&packed);
    buf_fini(&list);
    return verdict;
}

static size_t url_count(struct fixture *f, enum webhook_kind kind)
{
    struct slice urls[WEBHOOK_URLS_MAX];

    return webhook_urls(f->t, NAME, kind, urls);
}

struct finding {
    const char *url;
    struct webhook_target target;
    bool found;
};

static bool find_url(void *arg, const struct webhook_target *target)
{
    struct finding *look = arg;

    if (!slice_eq(target->url, slice_str(look->url)))
        return true;
    look->target = *target;
    look->found = true;
    return false;
}

static struct webhook_target target_of(struct fixture *f, const char *url)
{
    struct finding look = {.url = url};

    webhook_target_each(f->t, find_url, &look);
    assert_true(look.found);
    return look.target;
}

static int put(struct fixture *f, enum event_type type, unsigned serial, uint64_t at_ms)
{
    char text[32];
    int len = snprintf(text, sizeof text, "r%u@example.net", serial);
    struct event e = {
        .ses_us = (now_ms + serial) * MS,
        .type = type,
        .severity = type == EVENT_FAILED ? SEVERITY_TEMPORARY : SEVERITY_NONE,
        .domain = NAME,
        .recipient = slice_of(text, (size_t)len),
        .message_id = SLICE("1@mg.example.com"),
        .ses_id = SLICE("0100018f"),
    };

    event_make_id(&e, &e.recipient, 1);
    return event_put(f->t, &e, at_ms * MS, &f->err);
}

static enum webhook_result outcome(struct fixture *f, const struct webhook_target *target,
                                   const struct webhook_due *due, enum posted verdict,
                                   uint32_t status, uint64_t at_ms)
{
    enum webhook_result result;
    const struct record_posted r = {
        .target = slice_of(target->id, WEBHOOK_TARGET_BYTES),
        .due_ms = due->due_ms,
        .place = slice_of(due->place, WEBHOOK_PLACE_BYTES),
        .verdict = (uint32_t)verdict,
        .status = status,
        .words = status == 0 ? SLICE("no answer") : slice_none(),
        .at_wall_ms = at_ms,
    };

    assert_int_equal(webhook_posted(f->t, &r, retries_ms, RETRIES, &result, &f->err), 0);
    return result;
}

static bool note_failure(void *arg, const struct webhook_failure *failure)
{
    *(struct webhook_failure *)arg = *failure;
    return true;
}

#define KIND(k) (1u << WEBHOOK_##k)

/* -------- the configuration -------- */

static void changes_are_made_whole_or_not_at_all(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(OPENED), "http://a/1 http://a/2 http://a/3"),
                     ANSWER_OK);
    uint64_t version = webhook_version(f->t);
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(CLICKED) | KIND(OPENED), "http://a/4"),
                     ANSWER_LIMIT);
    assert_int_equal(url_count(f, WEBHOOK_CLICKED), 0);
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(CLICKED) | KIND(OPENED), "http://a/1"),
                     ANSWER_REFUSED);
    assert_int_equal(url_count(f, WEBHOOK_CLICKED), 0);
    assert_int_equal(
        change(f, WEBHOOK_REPLACE, KIND(OPENED), "http://a/1 http://a/2 http://a/3 http://a/4"),
        ANSWER_REFUSED);
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(CLICKED), "http://a/1 ftp://a/2"), ANSWER_REFUSED);
    assert_true(slice_starts(buf_slice(&f->words), SLICE("ftp://a/2 is not a valid url")));
    assert_int_equal(change(f, WEBHOOK_REPLACE, KIND(CLICKED), "http://a/1"), ANSWER_NOT_FOUND);
    assert_int_equal(change(f, WEBHOOK_CLEAR, KIND(CLICKED), ""), ANSWER_NOT_FOUND);
    assert_int_equal(change(f, WEBHOOK_REMOVE, 0, "http://a/9"), ANSWER_NOT_FOUND);
    assert_int_equal(change(f, (enum webhook_change)99, KIND(OPENED), "http://a/1"),
                     ANSWER_REFUSED);
    assert_int_equal(change(f, WEBHOOK_ADD, 1u << 30, "http://a/1"), ANSWER_REFUSED);
    assert_int_equal(webhook_version(f->t), version);
    assert_int_equal(url_count(f, WEBHOOK_OPENED), WEBHOOK_URLS_MAX);
    assert_int_equal(rows(f, DB_WEBHOOK_TARGETS), 3);

    assert_int_equal(change(f, WEBHOOK_MOVE, KIND(CLICKED), "http://a/2"), ANSWER_OK);
    assert_int_equal(url_count(f, WEBHOOK_OPENED), 2);
    assert_int_equal(url_count(f, WEBHOOK_CLICKED), 1);
    assert_true(webhook_version(f->t) != version);
}

static void the_signing_key_is_made_once(void **state)
{
    struct fixture *f = *state;
    char key[WEBHOOK_KEY_CHARS];

    assert_int_equal(webhook_signing_key(f->t).len, 0);
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(OPENED), "http://a/1"), ANSWER_OK);
    assert_int_equal(webhook_signing_key(f->t).len, WEBHOOK_KEY_CHARS);
    memcpy(key, webhook_signing_key(f->t).ptr, sizeof key);
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(CLICKED), "http://a/1"), ANSWER_OK);
    assert_memory_equal(webhook_signing_key(f->t).ptr, key, sizeof key);
}

/* -------- the outbox -------- */

static void an_event_is_due_once_at_each_url_of_its_kind(void **state)
{
    struct fixture *f = *state;
    struct webhook_due due;

    assert_int_equal(put(f, EVENT_DELIVERED, 1, now_ms), 1); /* before anybody wants it */
    assert_false(webhook_has_enqueued(f->t));
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1 http://a/2"), ANSWER_OK);
    assert_int_equal(put(f, EVENT_OPENED, 2, now_ms), 1);
    assert_false(webhook_has_enqueued(f->t));
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), 0);
    assert_int_equal(put(f, EVENT_DELIVERED, 3, now_ms + 3), 1);
    assert_true(webhook_has_enqueued(f->t));
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), 2);
    assert_int_equal(put(f, EVENT_DELIVERED, 3, now_ms + 4), 0); /* a redelivery */
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), 2);
    commit(f);
    assert_false(webhook_has_enqueued(f->t));

    struct webhook_target one = target_of(f, "http://a/1");
    assert_true(webhook_due_first(f->t, one.id, &due));
    assert_int_equal(due.due_ms, now_ms + 3);
    assert_int_equal(due.attempts, 0);
    assert_false(webhook_due_next(f->t, one.id, &due));
    assert_int_equal(webhook_due_count(f->t, one.id, 10), 1);
}

static void each_of_a_group_is_due_and_found_again(void **state)
{
    struct fixture *f = *state;
    struct recipient list[GROUPED] = {0};
    static char texts[GROUPED][32];
    bool seen[GROUPED] = {false};
    struct arena arena = {0};
    struct webhook_due due;
    const struct message_head head = {
        .domain = NAME,
        .message_id = SLICE("2@mg.example.com"),
        .batch_mode = true,
        .from = SLICE("a@mg.example.com"),
        .accepted_wall_us = now_ms * MS,
    };

    for (size_t i = 0; i < GROUPED; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "g%zu@example.net", i);
        list[i].address = slice_str(texts[i]);
    }
    assert_int_equal(change(f, WEBHOOK_ADD, KIND(ACCEPTED), "http://a/1"), ANSWER_OK);
    assert_int_equal(event_put_accepted(f->t, &head, 7, 300, list, GROUPED, now_ms * MS, &f->err),
                     0);
    struct webhook_target target = target_of(f, "http://a/1");
    size_t count = 0;
    for (bool more = webhook_due_first(f->t, target.id, &due); more;
         more = webhook_due_next(f->t, target.id, &due), count++) {
        struct event e;
        unsigned which;
        assert_true(event_at(f->t, NAME, due.place, &arena, &e));
        assert_int_equal(e.type, EVENT_ACCEPTED);
        assert_int_equal(e.recipient.ptr[0], 'g');
        which = (unsigned)strtoul((const char *)e.recipient.ptr + 1, NULL, 10);
        assert_true(which < GROUPED && !seen[which]);
        seen[which] = true;
    }
    assert_int_equal(count, GROUPED);
    due.place[0] ^= 1;
    struct event none;
    assert_false(event_at(f->t, NAME, due.place, &arena, &none));
    arena_fini(&arena);
}

static void a_failure_is_due_again_by_the_schedule_and_then_given_up(void **state)
{
    struct fixture *f = *state;
    struct webhook_failure failure = {.attempts = 0};
    uint64_t at_ms = now_ms + 10;
    struct webhook_due due, first;

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1"), ANSWER_OK);
    assert_int_equal(put(f, EVENT_DELIVERED, 1, now_ms), 1);
    struct webhook_target target = target_of(f, "http://a/1");
    assert_true(webhook_due_first(f->t, target.id, &first));
    due = first;
    for (unsigned i = 0; i < RETRIES; i++) {
        assert_int_equal(outcome(f, &target, &due, POSTED_FAILED, 500, at_ms), WEBHOOK_AGAIN);
        struct webhook_due old = due;
        assert_true(webhook_due_first(f->t, target.id, &due));
        assert_int_equal(due.due_ms, at_ms + retries_ms[i]);
        assert_int_equal(due.attempts, i + 1);
        assert_int_equal(due.first_ms, now_ms);
        /* a second report of the same attempt, as a record replayed would be: nothing */
        assert_int_equal(outcome(f, &target, &old, POSTED_FAILED, 500, at_ms), WEBHOOK_NOTHING);
        assert_int_equal(rows(f, DB_WEBHOOK_DUE), 1);
        at_ms = due.due_ms + 5;
    }
    assert_int_equal(outcome(f, &target, &due, POSTED_FAILED, 0, at_ms), WEBHOOK_GIVEN_UP);
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), 0);
    webhook_failure_each(f->t, NULL, note_failure, &failure);
    assert_int_equal(failure.attempts, RETRIES + 1);
    assert_int_equal(failure.failed_us, at_ms * MS);
    assert_int_equal(failure.status, 0);
    assert_true(slice_eq(failure.words, SLICE("no answer")));
    target = target_of(f, "http://a/1");
    assert_int_equal(target.failures, RETRIES + 1);
    assert_int_equal(target.refused, 1);

    /* told again, and taken */
    enum answer_verdict verdict;
    uint32_t count;
    uint8_t id[WEBHOOK_FAILURE_BYTES];
    memcpy(id, failure.id, sizeof id);
    const struct record_control replay = {.verb = CONTROL_WEBHOOK_REPLAY,
                                          .ids = slice_of(id, sizeof id)};
    assert_int_equal(
        webhook_control(f->t, &replay, at_ms + 50, &verdict, &count, &f->words, &f->err), 0);
    assert_int_equal(count, 1);
    assert_true(webhook_has_enqueued(f->t));
    assert_int_equal(rows(f, DB_WEBHOOK_FAILED), 0);
    assert_true(webhook_due_first(f->t, target.id, &due));
    assert_int_equal(due.due_ms, at_ms + 50);
    assert_int_equal(due.attempts, 0);
    assert_memory_equal(due.place, first.place, WEBHOOK_PLACE_BYTES);
    assert_int_equal(outcome(f, &target, &due, POSTED_TAKEN, 200, at_ms + 60), WEBHOOK_TAKEN);
    target = target_of(f, "http://a/1");
    assert_int_equal(target.failures, 0);
    assert_int_equal(target.taken, 1);
    assert_int_equal(webhook_control(f->t, &replay, at_ms, &verdict, &count, &f->words, &f->err),
                     0);
    assert_int_equal(verdict, ANSWER_NOT_FOUND);
}

static void a_refusal_is_the_end_at_the_first_attempt(void **state)
{
    struct fixture *f = *state;
    struct webhook_failure failure = {.attempts = 0};
    struct webhook_due due;

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1"), ANSWER_OK);
    assert_int_equal(put(f, EVENT_DELIVERED, 1, now_ms), 1);
    struct webhook_target target = target_of(f, "http://a/1");
    assert_true(webhook_due_first(f->t, target.id, &due));
    assert_int_equal(outcome(f, &target, &due, POSTED_REFUSED, 406, now_ms), WEBHOOK_GIVEN_UP);
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), 0);
    webhook_failure_each(f->t, NULL, note_failure, &failure);
    assert_int_equal(failure.attempts, 1);
    assert_int_equal(failure.status, 406);
}

static void what_makes_no_sense_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct webhook_due due;
    enum webhook_result result;

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1"), ANSWER_OK);
    assert_int_equal(put(f, EVENT_DELIVERED, 1, now_ms), 1);
    struct webhook_target target = target_of(f, "http://a/1");
    assert_true(webhook_due_first(f->t, target.id, &due));
    const struct record_posted bad[] = {
        {.target = slice_of(target.id, 3),
         .due_ms = due.due_ms,
         .place = slice_of(due.place, WEBHOOK_PLACE_BYTES)},
        {.target = slice_of(target.id, WEBHOOK_TARGET_BYTES),
         .due_ms = due.due_ms,
         .place = slice_of(due.place, 5)},
        {.target = slice_of(target.id, WEBHOOK_TARGET_BYTES),
         .due_ms = due.due_ms,
         .place = slice_of(due.place, WEBHOOK_PLACE_BYTES),
         .verdict = 77},
        {.target = slice_of(target.id, WEBHOOK_TARGET_BYTES),
         .due_ms = due.due_ms + 1,
         .place = slice_of(due.place, WEBHOOK_PLACE_BYTES)},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(webhook_posted(f->t, &bad[i], retries_ms, RETRIES, &result, &f->err), 0);
        assert_int_equal(result, WEBHOOK_NOTHING);
    }
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), 1);
    const struct record_control r = {.verb = CONTROL_WEBHOOK_DROP, .ids = SLICE("short")};
    enum answer_verdict verdict;
    uint32_t count;
    assert_int_equal(webhook_control(f->t, &r, now_ms, &verdict, &count, &f->words, &f->err), 0);
    assert_int_equal(verdict, ANSWER_REFUSED);
}

static void a_url_no_longer_configured_is_forgotten_bit_by_bit(void **state)
{
    struct fixture *f = *state;
    struct webhook_due due;

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1 http://a/2"), ANSWER_OK);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(put(f, EVENT_DELIVERED, i, now_ms), 1);
    struct webhook_target gone = target_of(f, "http://a/1"), kept = target_of(f, "http://a/2");
    assert_true(webhook_due_first(f->t, gone.id, &due));
    assert_int_equal(outcome(f, &gone, &due, POSTED_REFUSED, 406, now_ms), WEBHOOK_GIVEN_UP);
    assert_int_equal(webhook_sweep(f->t, 100, &f->err), 0);
    assert_int_equal(change(f, WEBHOOK_REMOVE, 0, "http://a/1"), ANSWER_OK);
    assert_int_equal(webhook_sweep(f->t, 4, &f->err), 4);
    assert_int_equal(webhook_due_count(f->t, gone.id, 100), 5);
    assert_int_equal(webhook_sweep(f->t, 100, &f->err), 5);
    assert_int_equal(webhook_due_count(f->t, kept.id, 100), 10);
    assert_int_equal(rows(f, DB_WEBHOOK_TARGETS), 2); /* its failure is still to be read */
    /* an outcome that was under way finds nothing, and what was refused can still be dropped */
    assert_true(webhook_due_first(f->t, kept.id, &due));
    assert_int_equal(outcome(f, &gone, &due, POSTED_FAILED, 500, now_ms), WEBHOOK_NOTHING);
    struct webhook_failure failure;
    enum answer_verdict verdict;
    uint32_t count;
    uint8_t id[WEBHOOK_FAILURE_BYTES];
    webhook_failure_each(f->t, NULL, note_failure, &failure);
    memcpy(id, failure.id, sizeof id);
    const struct record_control drop = {.verb = CONTROL_WEBHOOK_DROP,
                                        .ids = slice_of(id, sizeof id)};
    assert_int_equal(webhook_control(f->t, &drop, now_ms, &verdict, &count, &f->words, &f->err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(webhook_sweep(f->t, 100, &f->err), 1);
    assert_int_equal(rows(f, DB_WEBHOOK_TARGETS), 1);
}

/* -------- crashes -------- */

/* A writer that stores events, commits them one by one and is killed: what events there are are due. */
static void an_event_is_stored_with_its_due_row_or_not_at_all(void **state)
{
    struct fixture *f = *state;
    int ready[2], status;
    char byte;

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1"), ANSWER_OK);
    commit(f);
    store_abort(f->t);
    store_close(f->store);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        f->store = store_open(f->dir, STORE_WRITE, &f->err);
        for (unsigned i = 0; f->store != NULL; i++) {
            f->t = store_begin_write(f->store, &f->err);
            if (f->t == NULL || put(f, EVENT_DELIVERED, i, now_ms) != 1 ||
                store_commit(f->t, &f->err) != 0 || write(ready[1], "x", 1) != 1)
                break;
        }
        _exit(1);
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    (void)close(ready[0]);
    (void)close(ready[1]);
    open_store(f);
    assert_true(rows(f, DB_WEBHOOK_DUE) >= 20);
    assert_int_equal(rows(f, DB_WEBHOOK_DUE), rows(f, DB_EVENTS));
}

struct problems {
    unsigned count;
};

static void count_problem(void *arg, const char *words)
{
    assert_true(words[0] != '\0');
    ((struct problems *)arg)->count++;
}

static void the_check_finds_rows_that_name_nothing(void **state)
{
    struct fixture *f = *state;
    struct problems found = {0};

    assert_int_equal(change(f, WEBHOOK_ADD, KIND(DELIVERED), "http://a/1"), ANSWER_OK);
    assert_int_equal(put(f, EVENT_DELIVERED, 1, now_ms), 1);
    commit(f);
    webhook_check(f->t, count_problem, &found);
    assert_int_equal(found.count, 0);
    struct webhook_target target = target_of(f, "http://a/1");
    assert_int_equal(
        store_del(f->t, DB_WEBHOOK_TARGETS, slice_of(target.id, WEBHOOK_TARGET_BYTES), &f->err), 0);
    assert_int_equal(store_put(f->t, DB_WEBHOOK_FAILED, SLICE("short"), SLICE("x"), &f->err), 0);
    webhook_check(f->t, count_problem, &found);
    assert_int_equal(found.count, 3); /* the kind's, the due row's, the failure's */
    store_abort(f->t);
    f->t = store_begin_write(f->store, &f->err);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(changes_are_made_whole_or_not_at_all),
        TEST(the_signing_key_is_made_once),
        TEST(an_event_is_due_once_at_each_url_of_its_kind),
        TEST(each_of_a_group_is_due_and_found_again),
        TEST(a_failure_is_due_again_by_the_schedule_and_then_given_up),
        TEST(a_refusal_is_the_end_at_the_first_attempt),
        TEST(what_makes_no_sense_changes_nothing),
        TEST(a_url_no_longer_configured_is_forgotten_bit_by_bit),
        TEST(an_event_is_stored_with_its_due_row_or_not_at_all),
        TEST(the_check_finds_rows_that_name_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
