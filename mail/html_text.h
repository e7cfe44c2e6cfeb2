/*
 * mail/html_text.h - what an HTML page says, as plain text: for a text part that nobody has written.
 *
 * SHAPE   Without <style>, <script>, <title>, <template> and comments. Blocks, rows and <br> begin a
 *         new line, paragraphs, lists and headings have an empty line around them, list items a
 *         "* " before; a link is followed by its address. Blanks are one blank but in <pre>; named
 *         entities of everyday use and all numeric ones are undone. Lines end in \n.
 * ERRORS  None: what is no HTML is text.
 */
#ifndef MAIL_HTML_TEXT_H
#define MAIL_HTML_TEXT_H

#include "base/buf.h"

/* Appends. */
void html_to_text(struct buf *to, struct slice html);

#endif
