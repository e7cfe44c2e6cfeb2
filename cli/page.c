#include "cli/page.h"

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

/* -------- columns -------- */

/* The system's table of widths, whatever the environment says: what is printed is UTF-8. */
static locale_t utf8(void)
{
    static locale_t made;

    if (made == (locale_t)0)
        made = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    return made;
}

static wchar_t code_point(struct slice character)
{
    static const uint8_t lead[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t code = character.ptr[0] & lead[character.len];

    for (size_t i = 1; i < character.len; i++)
        code = code << 6 | (character.ptr[i] & 0x3f);
    return (wchar_t)code;
}

/* Columns of the character that text begins with, of *len bytes; -1: it must not reach a terminal. */
static int width_of(struct slice text, size_t *len)
{
    size_t bytes = slice_utf8_len(text);

    *len = bytes == 0 ? 1 : bytes;
    if (bytes == 0)
        return -1;
    wchar_t code = code_point(slice_head(text, bytes));
    if (code < ' ' || (code >= 0x7f && code < 0xa0))
        return -1;
    locale_t before = utf8() == (locale_t)0 ? (locale_t)0 : uselocale(utf8());
    int width = before == (locale_t)0 ? 1 : wcwidth(code);
    if (before != (locale_t)0)
        (void)uselocale(before);
    return width < 0 ? 1 : width; /* not in the table: printed as some sign */
}

size_t page_width(struct slice text)
{
    size_t columns = 0, len;

    for (; text.len > 0; text = slice_from(text, len)) {
        int width = width_of(text, &len);
        columns += width < 0 ? 1 : (size_t)width;
    }
    return columns;
}

void page_column(struct buf *to, struct slice text, unsigned columns)
{
    size_t len;

    for (; text.len > 0; text = slice_from(text, len)) {
        int width = width_of(text, &len);
        unsigned taken = width < 0 ? 1 : (unsigned)width;
        if (taken > columns)
            break;
        if (width < 0)
            buf_add_byte(to, '?');
        else
            buf_add(to, text.ptr, len);
        columns -= taken;
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

/* -------- colours -------- */

bool page_has_colour(int fd)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(fd) != 0 && (no == NULL || no[0] == '\0') &&
           (term == NULL || strcmp(term, "dumb") != 0);
}

void page_colour(struct buf *to, enum page_colour colour)
{
    static const char *const codes[] = {[PAGE_PLAIN] = "",
                                        [PAGE_GREEN] = "\033[32m",
                                        [PAGE_YELLOW] = "\033[33m",
                                        [PAGE_RED] = "\033[31m",
                                        [PAGE_DIM] = "\033[2m"};

    buf_add_str(to, codes[colour]);
}

void page_colour_end(struct buf *to, enum page_colour colour)
{
    if (colour != PAGE_PLAIN)
        buf_add_str(to, "\033[0m");
}

/* -------- drawing again -------- */

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
