/*
 * mail/handlebars.h - stored templates: Mailgun's subset of Handlebars, parsed once and rendered
 * with the variables of a message.
 *
 * SHAPE   {{path}} escaped for HTML, {{{path}}} and {{&path}} as it is; paths: a.b, a.0, a.[b c],
 *         this, ../a, @root.a, and in each @index @key @first @last. Blocks: {{#if a}},
 *         {{#unless a}}, {{#each a}}, {{#with a}}, {{#equal a b}} (the same text; "text", 1, true),
 *         each with {{else}}, or {{else if a}}. {{! comment}}, {{!-- comment --}}, \{{no tag}},
 *         {{~ and ~}}. A block's tag or a comment alone on its line leaves no line behind. What is
 *         not there is empty; "", 0, false, null and [] are false. Partials, helpers of one's own,
 *         named arguments and subexpressions are refused.
 * MEMORY  What is parsed lives in the caller's arena and borrows from the text.
 * ERRORS  handlebars_parse(): false, and what is wrong in which line. handlebars_render(): false
 *         once the budget is used up; what was appended by then is of no use.
 * SOURCE  Mailgun's manual, "Sending messages with templates"; handlebarsjs.com, the language guide.
 */
#ifndef MAIL_HANDLEBARS_H
#define MAIL_HANDLEBARS_H

#include "base/arena.h"
#include "base/json.h"

enum { HANDLEBARS_DEPTH_MAX = 32, HANDLEBARS_SEGMENTS_MAX = 16 };

struct handlebars_node; /* NULL is an empty template */

struct handlebars_error {
    unsigned line; /* from 1 */
    const char *words;
};

bool handlebars_parse(struct slice text, struct arena *a, const struct handlebars_node **t,
                      struct handlebars_error *e);

/* What rendering may cost, in all the calls that share it. */
struct handlebars_budget {
    uint64_t steps; /* tags, passes of a loop, members looked at (16 for one) */
    uint64_t bytes; /* appended */
};

enum handlebars_escape { HANDLEBARS_HTML, HANDLEBARS_PLAIN /* {{x}} is as {{{x}}} */ };

/* variables: an object, or NULL. */
bool handlebars_render(const struct handlebars_node *t, const cJSON *variables,
                       enum handlebars_escape escape, struct handlebars_budget *budget,
                       struct buf *to);

#endif
