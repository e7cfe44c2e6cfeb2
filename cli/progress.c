#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/page.h"

enum { AFTER_MS = 2000, EVERY_MS = 100, CELLS = 30 };

struct progress progress_begin(const char *what)
{
    return (struct progress){
        .what = what, .on_terminal = isatty(STDERR_FILENO) != 0, .began_mono_ms = clock_mono_ms()};
}

/* What is left, as long again as what is done took; 0 = nobody can tell yet. */
static uint64_t left_ms(const struct progress *p, uint64_t now_ms, uint64_t done, uint64_t whole)
{
    if (done == 0 || whole <= done)
        return 0;
    return (uint64_t)((double)(now_ms - p->began_mono_ms) * (double)(whole - done) / (double)done);
}

void progress_show(struct progress *p, uint64_t done, uint64_t whole, const char *words)
{
    uint64_t now_ms = clock_mono_ms();
    struct buf line = {0};

    if (!p->on_terminal || now_ms - p->began_mono_ms < AFTER_MS ||
        now_ms - p->drawn_mono_ms < EVERY_MS)
        return;
    buf_printf(&line, "\r\033[K%s ", p->what);
    if (whole > 0) {
        page_bar(&line, done < whole ? done : whole, whole, CELLS);
        buf_printf(&line, " %3u %%",
                   (unsigned)(done >= whole ? 100 : (double)done * 100 / (double)whole));
    } else {
        page_number(&line, done, 0);
    }
    if (words != NULL)
        buf_printf(&line, "  %s", words);
    if (whole > 0 && left_ms(p, now_ms, done, whole) > 0) {
        buf_add_str(&line, "  ");
        page_duration(&line, left_ms(p, now_ms, done, whole));
        buf_add_str(&line, " left");
    }
    (void)fwrite(line.ptr, 1, line.len, stderr);
    p->drawn_mono_ms = now_ms;
    p->is_drawn = true;
    buf_fini(&line);
}

void progress_wipe(struct progress *p)
{
    if (p->is_drawn)
        (void)fputs("\r\033[K", stderr);
    p->is_drawn = false;
}
