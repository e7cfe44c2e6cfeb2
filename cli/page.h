/*
 * cli/page.h - what people read on a terminal: columns, bars, durations, and a page that is drawn
 * again in its own place.
 *
 * UNITS   Columns of a terminal: a character takes one, a wide one (Chinese, an emoji) two, one that
 *         is written over the last (an accent) none; durations in ms.
 * MEMORY  Everything is appended to the caller's buf.
 */
#ifndef CLI_PAGE_H
#define CLI_PAGE_H

#include "base/buf.h"

/* The text in exactly so many columns, padded or cut. Control characters become '?', so that a
 * subject cannot steer the terminal. */
void page_column(struct buf *to, struct slice text, unsigned columns);
/* How many columns the text takes. */
size_t page_width(struct slice text);
/* A number, right-aligned, thousands apart: 12,345. */
void page_number(struct buf *to, uint64_t number, unsigned columns);
void page_bar(struct buf *to, uint64_t part, uint64_t whole, unsigned cells);
/* 950 ms, 31 s, 4 min, 2 h 10 min, 3 d 4 h */
void page_duration(struct buf *to, uint64_t ms);
/* Local time: 14:05 today, else 2026-11-25 14:05. */
void page_time(struct buf *to, uint64_t wall_ms, uint64_t now_wall_ms);

enum page_colour { PAGE_PLAIN, PAGE_GREEN, PAGE_YELLOW, PAGE_RED, PAGE_DIM };

/* Is it a terminal that shows colours to somebody who wants them (NO_COLOR, TERM=dumb)? */
bool page_has_colour(int fd);
/* From here on, until page_colour_end() with the same. PAGE_PLAIN puts nothing. */
void page_colour(struct buf *to, enum page_colour colour);
void page_colour_end(struct buf *to, enum page_colour colour);

/* {.on_terminal = …} is a new page. */
struct page {
    bool on_terminal;
    unsigned lines; /* of the last drawing */
};

/* Writes the text, lines that end in '\n', over the last drawing. */
void page_draw(struct page *p, const struct buf *text);

#endif
