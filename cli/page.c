#include "cli/page.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

void page_column(struct buf *to, struct slice text, unsigned columns)
{
    while (text.len > 0 && columns > 0) {
        size_t len = slice_utf8_len(text);
        bool plain = len > 1 || (len == 1 && text.ptr[0] >= ' ' && text.ptr[0] != 0x7f);
        /* C1 controls are two bytes in UTF-8 */
        if (len == 2 && text.ptr[0] == 0xc2 && text.ptr[1] < 0xa0)
            plain = false;
        if (plain)
            buf_add(to, text.ptr, len);
        else
            buf_add_byte(to, '?');
        text = slice_from(text, len == 0 ? 1 : len);
        columns--;
    }
    for (; columns > 0; columns--)
        buf_add_byte(to, ' ');
}

void page_number(struct buf *to, uint64_t number, unsigned columns)
{
    char digits[32];
    size_t at = sizeof digits;
    unsigned count = 0;

    do {
        if (count != 0 && count % 3 == 0)
            digits[--at] = ',';
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
        count++;
    } while (number != 0);
    for (size_t len = sizeof digits - at; len < columns; len++)
        buf_add_byte(to, ' ');
    buf_add(to, digits + at, sizeof digits - at);
}

void page_bar(struct buf *to, uint64_t part, uint64_t whole, unsigned cells)
{
    uint64_t full = whole == 0 ? 0 : part >= whole ? cells : part * cells / whole;

    for (unsigned i = 0; i < cells; i++)
        buf_add_str(to, i < full ? "█" : "░");
}

void page_duration(struct buf *to, uint64_t ms)
{
    uint64_t s = (ms + 500) / 1000, min = (s + 30) / 60, h = (min + 30) / 60;

    if (ms < 1000)
        buf_printf(to, "%" PRIu64 " ms", ms);
    else if (s < 120)
        buf_printf(to, "%" PRIu64 " s", s);
    else if (min < 60)
        buf_printf(to, "%" PRIu64 " min", min);
    else if (min < 24 * 60)
        buf_printf(to, "%" PRIu64 " h %" PRIu64 " min", min / 60, min % 60);
    else
        buf_printf(to, "%" PRIu64 " d %" PRIu64 " h", h / 24, h % 24);
}

void page_time(struct buf *to, uint64_t wall_ms, uint64_t now_wall_ms)
{
    time_t at = (time_t)(wall_ms / 1000), now = (time_t)(now_wall_ms / 1000);
    struct tm then, today;
    char text[32];

    if (localtime_r(&at, &then) == NULL || localtime_r(&now, &today) == NULL)
        return;
    bool same = then.tm_year == today.tm_year && then.tm_yday == today.tm_yday;
    if (strftime(text, sizeof text, same ? "%H:%M" : "%Y-%m-%d %H:%M", &then) > 0)
        buf_add_str(to, text);
}

void page_draw(struct page *p, const struct buf *text)
{
    unsigned lines = 0;

    if (p->on_terminal && p->lines > 0)
        (void)printf("\033[%uA", p->lines);
    for (struct slice rest = buf_slice(text), line; rest.len > 0; lines++) {
        (void)slice_cut(rest, '\n', &line, &rest);
        (void)printf("%.*s%s\n", SLICE_ARGS(line), p->on_terminal ? "\033[K" : "");
    }
    if (p->on_terminal)
        (void)fputs("\033[J", stdout); /* what a longer page left below */
    (void)fflush(stdout);
    p->lines = lines;
}
