/*
 * postern deadletters queues, and --redrive: the dead-letter queues in SQS, where a message goes
 * that was received ten times and never stored. Postern need not run.
 */
#include "doctor/redrive.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/progress.h"

enum { LOOK_MS = 500, PROGRESS_WITHIN_MS = 15000 };

struct moving {
    uint64_t waited, left; /* messages before and after */
    struct err err;
    bool failed;
};

static void show(const struct cli_options *o, const struct patient_queue *q, const struct moving *m)
{
    struct buf line = {0};

    if (o->json) {
        buf_add_byte(&line, '{');
        json_put_str(&line, "queue", slice_str(q->name));
        json_put_str(&line, "dead_letter_queue", slice_str(redrive_name(q)));
        json_put_u64(&line, "waiting", m->left);
        if (o->redrive)
            json_put_u64(&line, "moved", m->waited > m->left ? m->waited - m->left : 0);
        buf_add_str(&line, "}\n");
    } else if (redrive_name(q)[0] == '\0') {
        buf_printf(&line, "%s has no dead-letter queue\n", q->name);
    } else if (o->redrive) {
        buf_printf(&line, "%s → %s: %" PRIu64 " moved, %" PRIu64 " left\n", redrive_name(q),
                   q->name, m->waited > m->left ? m->waited - m->left : 0, m->left);
    } else {
        buf_printf(&line, "%s: %" PRIu64 " messages\n", redrive_name(q), m->left);
    }
    (void)fwrite(line.ptr, 1, line.len, stdout);
    (void)fflush(stdout);
    buf_fini(&line);
}

/* Until it is empty, or nothing changes any more. */
static void wait_for(struct patient *p, struct patient_queue *q, struct moving *m)
{
    uint64_t until_ms = clock_mono_ms() + PROGRESS_WITHIN_MS;
    struct progress bar = progress_begin(q->name);

    for (;;) {
        uint64_t before = m->left;
        patient_look_at_queue(p, q);
        m->left = redrive_waiting(q);
        progress_show(&bar, m->waited > m->left ? m->waited - m->left : 0, m->waited, "moved");
        if (m->left == 0 || clock_mono_ms() > until_ms)
            break;
        if (m->left < before)
            until_ms = clock_mono_ms() + PROGRESS_WITHIN_MS;
        session_pause(p->session, LOOK_MS);
    }
    progress_wipe(&bar);
}

static struct moving treat(const struct cli_options *o, struct patient *p, struct patient_queue *q)
{
    struct moving m = {0};

    patient_look_at_queue(p, q);
    if (q->queue.result != INSPECT_FOUND) {
        m.failed = true;
        m.err = q->queue.err;
        if (q->queue.result == INSPECT_ABSENT)
            (void)err_set(&m.err, ERR_NOT_FOUND, "there is no queue %s", q->name);
        return m;
    }
    m.waited = m.left = redrive_waiting(q);
    if (!o->redrive || m.waited == 0)
        return m;
    m.failed = redrive_start(p, q, &m.err) != 0;
    if (!m.failed)
        wait_for(p, q, &m);
    return m;
}

int cli_dead_queues(const struct cli_options *o)
{
    struct config *config = cli_config_load(o);
    struct patient p;
    int status = CLI_DONE;

    if (config == NULL)
        return CLI_WRONG_USE;
    patient_init(&p, config);
    if (!patient_log_in(&p)) {
        (void)fprintf(stderr, "postern deadletters: %s\n",
                      p.session == NULL ? p.session_err.text : p.caller.err.text);
        status = CLI_WRONG_USE;
    }
    for (size_t i = 0; i < p.queue_count && status != CLI_WRONG_USE; i++) {
        struct moving m = treat(o, &p, &p.queues[i]);
        if (m.failed) {
            (void)fprintf(stderr, "postern deadletters: %s\n", m.err.text);
            status = CLI_WRONG_USE;
            break;
        }
        show(o, &p.queues[i], &m);
        if (m.left > 0)
            status = CLI_NOT_SO;
    }
    patient_fini(&p);
    config_free(config);
    return status;
}
