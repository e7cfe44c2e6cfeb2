#include "mail/sql_dump.h"

struct sql_dump sql_dump_over(struct slice text)
{
    if (slice_starts(text, SLICE("\xef\xbb\xbf")))
        text = slice_from(text, 3);
    return (struct sql_dump){.rest = text, .line = 1, .delimiter = SLICE(";")};
}

void sql_dump_fini(struct sql_dump *d)
{
    arena_fini(&d->arena);
}

/* -------- moving on -------- */

static void pass(struct sql_dump *d, size_t bytes)
{
    const uint8_t *at = d->rest.ptr;

    if (bytes == 0)
        return;
    for (const uint8_t *end = at + bytes;
         (at = memchr(at, '\n', (size_t)(end - at))) != NULL && at < end; at++)
        d->line++;
    d->rest = slice_from(d->rest, bytes);
}

static bool broken(struct sql_dump *d, const char *why)
{
    d->why = why;
    return false;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c == '$' || c >= 0x80;
}

static size_t line_length(struct slice s)
{
    size_t at = slice_find_byte(s, '\n');

    return at == SIZE_MAX ? s.len : at + 1;
}

/* How long the comment is that s begins with; 0 = none. */
static size_t comment_length(struct slice s)
{
    bool is_line =
        s.len > 0 &&
        (s.ptr[0] == '#' || (slice_starts(s, SLICE("--")) && (s.len == 2 || is_blank(s.ptr[2]))));

    if (is_line)
        return line_length(s);
    if (!slice_starts(s, SLICE("/*")))
        return 0;
    size_t end = slice_find(slice_from(s, 2), SLICE("*/"));
    return end == SIZE_MAX ? s.len : end + 4;
}

/* Blanks and comments. */
static void pass_space(struct sql_dump *d)
{
    while (d->rest.len > 0) {
        size_t n = is_blank(d->rest.ptr[0]) ? 1 : comment_length(d->rest);
        if (n == 0)
            return;
        pass(d, n);
    }
}

static bool pass_byte(struct sql_dump *d, uint8_t byte)
{
    pass_space(d);
    if (d->rest.len == 0 || d->rest.ptr[0] != byte)
        return false;
    pass(d, 1);
    return true;
}

static struct slice peek_word(const struct sql_dump *d)
{
    size_t n = 0;

    while (n < d->rest.len && is_word(d->rest.ptr[n]))
        n++;
    return slice_head(d->rest, n);
}

static bool pass_word(struct sql_dump *d, const char *word)
{
    pass_space(d);
    if (!slice_eq_nocase(peek_word(d), slice_str(word)))
        return false;
    pass(d, strlen(word));
    return true;
}

/* Behind an opening quote: bytes up to the closing one; SIZE_MAX = there is none. A doubled quote is
 * one within the text; a backslash takes the next byte with it, but not in a name. */
static size_t quoted_length(struct slice s, uint8_t quote, bool *is_escaped)
{
    *is_escaped = false;
    for (size_t i = 0; i < s.len; i++) {
        bool is_backslash = s.ptr[i] == '\\' && quote != '`';
        if (!is_backslash && s.ptr[i] != quote)
            continue;
        if (!is_backslash && (i + 1 == s.len || s.ptr[i + 1] != quote))
            return i;
        *is_escaped = true;
        i++;
    }
    return SIZE_MAX;
}

/* A quoted text, quotes and all. */
static bool pass_quoted(struct sql_dump *d, struct slice *inner, bool *is_escaped)
{
    size_t len = quoted_length(slice_from(d->rest, 1), d->rest.ptr[0], is_escaped);

    if (len == SIZE_MAX)
        return broken(d, "a quoted text does not end: the dump is cut short");
    *inner = slice_of(d->rest.ptr + 1, len);
    pass(d, len + 2);
    return true;
}

/* A name, quoted or not; of "database"."table" the last part. */
static bool pass_name(struct sql_dump *d, struct slice *name)
{
    bool is_escaped;

    do {
        pass_space(d);
        *name = peek_word(d);
        if (name->len > 0)
            pass(d, name->len);
        else if (d->rest.len == 0 || (d->rest.ptr[0] != '`' && d->rest.ptr[0] != '"'))
            return broken(d, "a name is missing here");
        else if (!pass_quoted(d, name, &is_escaped))
            return false;
    } while (pass_byte(d, '.'));
    return true;
}

/* Up to behind the statement's end, which is not within quotes or comments. */
static bool pass_statement(struct sql_dump *d)
{
    while (d->rest.len > 0) {
        uint8_t c = d->rest.ptr[0];
        struct slice inner;
        bool is_escaped;
        size_t n = comment_length(d->rest);
        if (slice_starts(d->rest, d->delimiter)) {
            pass(d, d->delimiter.len);
            return true;
        }
        if (c == '\'' || c == '"' || c == '`') {
            if (!pass_quoted(d, &inner, &is_escaped))
                return false;
        } else {
            pass(d, n > 0 ? n : 1);
        }
    }
    return broken(d, "a statement does not end: the dump is cut short");
}

/* -------- tables -------- */

static struct sql_table *table_of(const struct sql_dump *d, struct slice name)
{
    for (struct sql_table *t = d->tables; t != NULL; t = t->next)
        if (slice_eq_nocase(t->name, name))
            return t;
    return NULL;
}

static bool add_column(struct sql_dump *d, struct sql_table *t, struct slice name)
{
    if (t->count == SQL_COLUMNS_MAX)
        return broken(d, "a table of more than 64 columns");
    t->columns[t->count++] = name;
    return true;
}

/* The rest of a definition: up to a comma or parenthesis that is not within one of its own. */
static bool pass_definition(struct sql_dump *d)
{
    size_t depth = 0;

    while (d->rest.len > 0) {
        uint8_t c = d->rest.ptr[0];
        struct slice inner;
        bool is_escaped;
        size_t n = comment_length(d->rest);
        if (depth == 0 && (c == ',' || c == ')'))
            return true;
        depth = c == '(' ? depth + 1 : c == ')' ? depth - 1 : depth;
        if (c == '\'' || c == '"' || c == '`') {
            if (!pass_quoted(d, &inner, &is_escaped))
                return false;
        } else {
            pass(d, n > 0 ? n : 1);
        }
    }
    return broken(d, "a table's definition does not end: the dump is cut short");
}

/* Does a column's definition begin here, and not a key's? */
static bool is_column_next(const struct sql_dump *d)
{
    static const char *const others[] = {"PRIMARY", "UNIQUE",  "KEY",        "INDEX", "FULLTEXT",
                                         "SPATIAL", "FOREIGN", "CONSTRAINT", "CHECK"};
    struct slice word = peek_word(d);

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (slice_eq_nocase(word, slice_str(others[i])))
            return false;
    return word.len > 0 || (d->rest.len > 0 && (d->rest.ptr[0] == '`' || d->rest.ptr[0] == '"'));
}

static bool read_create(struct sql_dump *d)
{
    struct sql_table *t = arena_alloc(&d->arena, sizeof *t);

    if (pass_word(d, "IF") && (!pass_word(d, "NOT") || !pass_word(d, "EXISTS")))
        return pass_statement(d);
    if (!pass_name(d, &t->name))
        return false;
    if (!pass_byte(d, '('))
        return pass_statement(d); /* … LIKE, … SELECT */
    do {
        struct slice name;
        pass_space(d);
        if (is_column_next(d) && (!pass_name(d, &name) || !add_column(d, t, name)))
            return false;
        if (!pass_definition(d))
            return false;
    } while (pass_byte(d, ','));
    t->next = d->tables;
    d->tables = t;
    return pass_statement(d);
}

/* INSERT INTO … VALUES, up to the first row. */
static bool read_insert(struct sql_dump *d)
{
    struct slice name;

    while (pass_word(d, "IGNORE") || pass_word(d, "LOW_PRIORITY") || pass_word(d, "DELAYED"))
        ;
    (void)pass_word(d, "INTO");
    if (!pass_name(d, &name))
        return false;
    const struct sql_table *known = table_of(d, name);
    d->row_table = known != NULL ? *known : (struct sql_table){.name = name};
    if (pass_byte(d, '(')) {
        d->row_table.count = 0;
        do {
            if (!pass_name(d, &name) || !add_column(d, &d->row_table, name))
                return false;
        } while (pass_byte(d, ','));
        if (!pass_byte(d, ')'))
            return broken(d, "the list of columns does not end");
    }
    if (!pass_word(d, "VALUES") && !pass_word(d, "VALUE"))
        return pass_statement(d); /* INSERT … SELECT: nothing of ours */
    d->in_rows = true;
    return true;
}

/* -------- rows -------- */

static bool is_hex(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
            return false;
    }
    return s.len > 0 && s.len % 2 == 0;
}

static bool read_text(struct sql_dump *d, struct sql_value *v)
{
    uint8_t quote = d->rest.ptr[0];
    bool is_escaped;

    v->kind = SQL_TEXT;
    if (!pass_quoted(d, &v->raw, &is_escaped))
        return false;
    v->escaped_in = is_escaped ? quote : 0;
    return true;
}

/* A number, NULL, a word, 0x…; or what stands before a quote: _binary '…', x'…', N'…'. */
static bool read_bare(struct sql_dump *d, struct sql_value *v)
{
    size_t n = 0;

    while (n < d->rest.len && (is_word(d->rest.ptr[n]) || d->rest.ptr[n] == '.' ||
                               d->rest.ptr[n] == '-' || d->rest.ptr[n] == '+'))
        n++;
    struct slice word = slice_head(d->rest, n);
    if (n == 0)
        return broken(d, "a value is missing here");
    pass(d, n);
    bool is_introducer = word.ptr[0] == '_' || slice_eq_nocase(word, SLICE("x")) ||
                         slice_eq_nocase(word, SLICE("n"));
    if (is_introducer) {
        pass_space(d);
        if (d->rest.len > 0 && (d->rest.ptr[0] == '\'' || d->rest.ptr[0] == '"')) {
            if (!read_text(d, v))
                return false;
            if (slice_eq_nocase(word, SLICE("x")) && is_hex(v->raw))
                v->kind = SQL_HEX;
            return true;
        }
    }
    v->raw = word;
    v->kind = slice_eq_nocase(word, SLICE("NULL")) ? SQL_NULL : SQL_WORD;
    if (slice_starts(word, SLICE("0x")) && is_hex(slice_from(word, 2))) {
        v->kind = SQL_HEX;
        v->raw = slice_from(word, 2);
    }
    return true;
}

static bool read_value(struct sql_dump *d, struct sql_value *v)
{
    pass_space(d);
    *v = (struct sql_value){.kind = SQL_NULL};
    if (d->rest.len > 0 && (d->rest.ptr[0] == '\'' || d->rest.ptr[0] == '"'))
        return read_text(d, v);
    return read_bare(d, v);
}

static bool read_row(struct sql_dump *d)
{
    d->value_count = 0;
    do {
        if (d->value_count == SQL_COLUMNS_MAX)
            return broken(d, "a row of more than 64 values");
        if (!read_value(d, &d->values[d->value_count]))
            return false;
        d->value_count++;
    } while (pass_byte(d, ','));
    if (!pass_byte(d, ')'))
        return broken(d, d->rest.len == 0 ? "a row does not end: the dump is cut short"
                                          : "a row is not what mysqldump writes");
    if (d->row_table.count == 0)
        return broken(d, "nothing names the columns of this row: make the dump without "
                         "--no-create-info, or with --complete-insert");
    if (d->value_count != d->row_table.count)
        return broken(d, "a row has another number of values than its table has columns");
    return true;
}

/* Behind a row: another one, or the statement's end (ON DUPLICATE KEY … is passed over). */
static bool next_row(struct sql_dump *d, bool *is_row)
{
    *is_row = pass_byte(d, ',');
    if (*is_row)
        return true;
    d->in_rows = false;
    return pass_statement(d);
}

/* DELIMITER is the client's, not SQL: a line of its own. */
static void read_delimiter(struct sql_dump *d)
{
    struct slice line = slice_trim(slice_head(d->rest, line_length(d->rest)));

    d->delimiter = line.len > 0 ? line : SLICE(";");
    pass(d, line_length(d->rest));
}

/* One statement, or the beginning of an INSERT. */
static bool read_statement(struct sql_dump *d)
{
    if (pass_word(d, "DELIMITER")) {
        read_delimiter(d);
        return true;
    }
    if (d->delimiter.len != 1) /* within the bodies of triggers and procedures nothing is ours */
        return pass_statement(d);
    if (pass_word(d, "INSERT") || pass_word(d, "REPLACE"))
        return read_insert(d);
    if (pass_word(d, "CREATE") && pass_word(d, "TABLE"))
        return read_create(d);
    return pass_statement(d);
}

enum sql_result sql_dump_next(struct sql_dump *d)
{
    bool is_row = false;

    d->why = NULL;
    if (d->in_rows && d->value_count > 0 && !next_row(d, &is_row))
        goto broken;
    while (!is_row) {
        d->value_count = 0;
        pass_space(d);
        if (d->rest.len == 0)
            return SQL_END;
        if (!read_statement(d))
            goto broken;
        is_row = d->in_rows;
    }
    pass_space(d);
    d->row_line = d->line;
    if (!pass_byte(d, '(')) {
        d->why =
            d->rest.len == 0 ? "rows are missing: the dump is cut short" : "no row begins here";
        goto broken;
    }
    if (read_row(d))
        return SQL_ROW;
broken:
    d->row_line = d->line;
    return SQL_BROKEN;
}

const struct sql_value *sql_dump_value(const struct sql_dump *d, const char *column)
{
    for (size_t i = 0; i < d->row_table.count && i < d->value_count; i++)
        if (slice_eq_nocase(d->row_table.columns[i], slice_str(column)))
            return &d->values[i];
    return NULL;
}

static uint8_t digit_of(uint8_t c)
{
    return (uint8_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

static struct slice undo_hex(struct slice raw, struct arena *a)
{
    uint8_t *text = arena_alloc(a, raw.len / 2 + 1);

    for (size_t i = 0; i + 1 < raw.len; i += 2)
        text[i / 2] = (uint8_t)(digit_of(raw.ptr[i]) << 4 | digit_of(raw.ptr[i + 1]));
    return slice_of(text, raw.len / 2);
}

/* \% and \_ keep their backslash: it means something in patterns only. */
static struct slice undo_escapes(struct slice raw, uint8_t quote, struct arena *a)
{
    static const char from[] = "0bnrtZ";
    static const uint8_t to[] = {0, '\b', '\n', '\r', '\t', 26};
    uint8_t *text = arena_alloc(a, raw.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < raw.len; i++) {
        uint8_t c = raw.ptr[i], next = i + 1 < raw.len ? raw.ptr[i + 1] : 0;
        if (i + 1 == raw.len || (c != '\\' && (c != quote || next != quote))) {
            text[len++] = c;
            continue;
        }
        i++;
        const char *special = next != 0 ? strchr(from, next) : NULL;
        if (c == '\\' && (next == '%' || next == '_'))
            text[len++] = '\\';
        text[len++] = c == '\\' && special != NULL ? to[special - from] : next;
    }
    return slice_of(text, len);
}

struct slice sql_value_text(const struct sql_value *v, struct arena *a)
{
    if (v == NULL || v->kind == SQL_NULL)
        return slice_none();
    if (v->kind == SQL_HEX)
        return undo_hex(v->raw, a);
    return v->escaped_in != 0 ? undo_escapes(v->raw, v->escaped_in, a) : v->raw;
}
