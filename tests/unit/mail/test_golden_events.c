/*
 * tests/golden/events: NAME.in is a message as it lies in SQS, NAME.out what becomes of it, byte by
 * byte. The latter are written from what Mailgun's and AWS's documentation say, not from what we
 * print. A line each:
 *
 *   ignored | nothing | settles | dead letter: WHY
 *   suppress LIST CODE: TEXT        then, of the same recipient:
 *   counts hard bounce | counts soft bounce
 *   the event as the API gives it, its id zeroed: an id is a digest, tested elsewhere
 *
 * Run from the project's root, as the test script does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "mail/ses_event.h"

#define FOLDER "tests/golden/events"

static void read_file(struct buf *to, const char *name, const char *end)
{
    char path[512];

    (void)snprintf(path, sizeof path, "%s/%s%s", FOLDER, name, end);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        fail_msg("%s is missing", path);
    buf_reset(to);
    for (size_t got = 1; got > 0;) {
        uint8_t *room = buf_reserve(to, 65536);
        got = fread(room, 1, 65536, f);
        to->len += got;
    }
    (void)fclose(f);
}

static void put_event(struct buf *to, struct ses_event *e)
{
    static const char *const lists[] = {"", "bounce", "unsubscribe", "complaint"};

    if (e->suppress != SES_SUPPRESS_NONE)
        buf_printf(to, "suppress %s %.*s: %.*s\n", lists[e->suppress], SLICE_ARGS(e->suppress_code),
                   SLICE_ARGS(e->suppress_text));
    if (e->bounce != SES_BOUNCE_NONE)
        buf_printf(to, "counts %s bounce\n", e->bounce == SES_BOUNCE_HARD ? "hard" : "soft");
    if (e->event.type == 0) {
        buf_add_str(to, e->settles ? "settles\n" : "nothing\n");
        return;
    }
    ses_event_identify(e);
    memset(e->event.id, 0, sizeof e->event.id);
    /* As the store does when nothing is in the way: no API timestamp is integral. */
    uint64_t in_second_us = e->event.ses_us % 1000000;
    e->event.timestamp_us = e->event.ses_us;
    if (in_second_us < EVENT_PAST_SECOND_US) /* as the store does */
        e->event.timestamp_us += EVENT_PAST_SECOND_US - in_second_us;
    event_to_json(to, &e->event, slice_none());
    buf_add_byte(to, '\n');
}

static bool check(const char *name)
{
    struct arena arena = {0};
    struct buf in = {0}, expected = {0}, got = {0};
    struct ses_event *events;
    struct slice why = {0};
    size_t count;

    read_file(&in, name, ".in");
    read_file(&expected, name, ".out");
    switch (ses_event_parse(buf_slice(&in), &arena, &events, &count, &why)) {
    case SES_IGNORED:
        buf_add_str(&got, "ignored\n");
        break;
    case SES_DEADLETTER:
        buf_printf(&got, "dead letter: %.*s\n", SLICE_ARGS(why));
        break;
    case SES_EVENTS:
        if (count == 0)
            buf_add_str(&got, "nothing\n");
        for (size_t i = 0; i < count; i++)
            put_event(&got, &events[i]);
        break;
    }
    bool same = slice_eq(buf_slice(&got), buf_slice(&expected));
    if (!same)
        (void)fprintf(stderr, "%s\n-- expected\n%.*s-- got\n%.*s", name,
                      SLICE_ARGS(buf_slice(&expected)), SLICE_ARGS(buf_slice(&got)));
    buf_fini(&in);
    buf_fini(&expected);
    buf_fini(&got);
    arena_fini(&arena);
    return same;
}

static int is_input(const struct dirent *d)
{
    size_t len = strlen(d->d_name);

    return len > 3 && strcmp(d->d_name + len - 3, ".in") == 0;
}

static void each_message_becomes_what_is_written(void **unused)
{
    struct dirent **list;
    int count = scandir(FOLDER, &list, is_input, alphasort), wrong = 0;

    (void)unused;
    assert_true(count > 80);
    for (int i = 0; i < count; i++) {
        char name[256];
        (void)snprintf(name, sizeof name, "%.*s", (int)strlen(list[i]->d_name) - 3,
                       list[i]->d_name);
        wrong += !check(name);
        free(list[i]);
    }
    free(list);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_message_becomes_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
