#include "mail/mime.h"

#include <assert.h>

#include "base/digest.h"

enum {
    LINE_SOFT = 78,            /* RFC 5322 2.1.1: should not pass */
    LINE_HARD = MIME_LINE_MAX, /* must not pass */
    ENCODED_LINE = 76,         /* RFC 2045 6.7 and 6.8: without CRLF */
    ENCODED_BYTES = 57,        /* of data in such a line of base64 */
    SEED_BYTES = 16,
    BOUNDARY_BYTES = 48,
    FILENAME_PLAIN = 60, /* longer names go in pieces, RFC 2231 3 */
    FILENAME_PIECE = 54,
};

/* ---- header fields ---- */

void mime_put_field(struct buf *to, struct slice name, struct slice value)
{
    assert(slice_is_ascii(value) && slice_find_byte(value, '\r') == SIZE_MAX);
    assert(slice_find_byte(value, '\n') == SIZE_MAX && slice_find_byte(value, 0) == SIZE_MAX);
    size_t column = name.len + 2;
    buf_add_slice(to, name);
    buf_add(to, ": ", 2);
    /* A blank belongs to the word after it: folding puts CRLF before it and changes nothing else.
     * A line of blanks alone would end the header for some readers, so no blank folds unless a
     * word follows it at once. */
    for (size_t at = 0; at < value.len;) {
        size_t end = at;
        while (end < value.len && (value.ptr[end] == ' ' || value.ptr[end] == '\t'))
            end++;
        size_t blanks = end - at;
        while (end < value.len && value.ptr[end] != ' ' && value.ptr[end] != '\t')
            end++;
        if (at > 0 && blanks > 0 && end - at > blanks && column + (end - at) > LINE_SOFT) {
            buf_add(to, value.ptr + at, blanks - 1);
            buf_add(to, "\r\n", 2);
            at += blanks - 1;
            column = 0;
        }
        buf_add(to, value.ptr + at, end - at);
        column += end - at;
        at = end;
    }
    buf_add(to, "\r\n", 2);
}

static void add_line(struct buf *to, const char *text)
{
    buf_add_str(to, text);
    buf_add(to, "\r\n", 2);
}

bool mime_stands_once(struct slice name)
{
    static const char *const once[] = {"date",
                                       "from",
                                       "to",
                                       "cc",
                                       "subject",
                                       "message-id",
                                       "reply-to",
                                       "sender",
                                       "mime-version",
                                       "in-reply-to",
                                       "references",
                                       "precedence",
                                       "priority",
                                       "importance",
                                       "sensitivity",
                                       "organization",
                                       "user-agent",
                                       "auto-submitted",
                                       "comments",
                                       "keywords",
                                       "errors-to",
                                       "x-priority",
                                       "x-msmail-priority",
                                       "x-mailer",
                                       "x-auto-response-suppress"};

    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++)
        if (slice_eq_nocase(name, slice_str(once[i])))
            return true;
    return slice_starts_nocase(name, SLICE("list-")) ||
           slice_starts_nocase(name, SLICE("thread-")) ||
           slice_starts_nocase(name, SLICE("content-"));
}

/* ---- texts ---- */

/* 7bit, or what is shorter. Counted on the text as it is: line ends differ by little. */
enum mime_encoding mime_encoding_of(struct slice text)
{
    size_t line = 0, escaped = 0;
    bool plain = true;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        line = c == '\n' ? 0 : line + 1;
        plain &= line < LINE_HARD;
        if (c < 0x80 && c != '=' && (c >= ' ' || c == '\t' || c == '\n' || c == '\r'))
            continue;
        escaped++;
        plain &= c == '=';
    }
    if (plain)
        return MIME_7BIT;
    /* Quoted-printable: two bytes more for each escape. Base64: a third more, and line ends. */
    return escaped * 2 + text.len / ENCODED_LINE * 3 > text.len * 27 / 73 ? MIME_BASE64
                                                                          : MIME_QUOTED_PRINTABLE;
}

/* The length of the line end at text[at], 0 if there is none. */
static size_t line_end(struct slice text, size_t at)
{
    if (text.ptr[at] == '\n')
        return 1;
    if (text.ptr[at] != '\r')
        return 0;
    return at + 1 < text.len && text.ptr[at + 1] == '\n' ? 2 : 1;
}

/* Appends, or only counts where `to` is NULL: what is put and how long it is are told by the same
 * code. */
static inline size_t put(struct buf *to, const void *bytes, size_t len)
{
    if (to != NULL)
        buf_add(to, bytes, len);
    return len;
}

/* Every line end becomes CRLF; the text ends with one. Returns the length; `to` as in put(). */
static size_t add_lines(struct buf *to, struct slice text)
{
    size_t start = 0, at = 0, len = 0;

    if (to != NULL)
        buf_reserve(to, text.len + text.len / 32 + 2);
    while (at < text.len) {
        size_t end = line_end(text, at);
        if (end == 0) {
            at++;
            continue;
        }
        len += put(to, text.ptr + start, at - start);
        len += put(to, "\r\n", 2);
        at += end;
        start = at;
    }
    if (start < text.len) {
        len += put(to, text.ptr + start, at - start);
        len += put(to, "\r\n", 2);
    }
    return len;
}

/* Returns the length; `to` as in put(). */
static size_t add_quoted_printable(struct buf *to, struct slice text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t column = 0, len = 0;

    for (size_t at = 0; at < text.len;) {
        size_t end = line_end(text, at);
        if (end > 0) {
            len += put(to, "\r\n", 2);
            column = 0;
            at += end;
            continue;
        }
        uint8_t c = text.ptr[at++];
        bool last = at == text.len || line_end(text, at) > 0;
        bool blank = c == ' ' || c == '\t';
        bool escape = c == '=' || c >= 0x7f || (c < ' ' && c != '\t') || (blank && last);
        size_t width = escape ? 3 : 1;
        /* The "=" of a soft break needs the last column, unless the line ends here anyway. */
        if (column + width > ENCODED_LINE - (last ? 0U : 1U)) {
            len += put(to, "=\r\n", 3);
            column = 0;
        }
        /* A line that begins with a dot or "From " suffers in transit (RFC 2049 3), and one that
         * begins with "--" may be taken for a boundary: a reader's variable could be made so. */
        if (column == 0 && (c == '.' || c == 'F' || (c == '-' && !last && text.ptr[at] == '-')))
            escape = true;
        width = escape ? 3 : 1;
        column += width;
        if (escape) {
            const char escaped[] = {'=', hex[c >> 4], hex[c & 15]};
            len += put(to, escaped, sizeof escaped);
        } else {
            len += put(to, &c, 1);
        }
    }
    if (column > 0 || text.len == 0)
        len += put(to, "\r\n", 2);
    return len;
}

static size_t base64_lines_length(size_t bytes)
{
    size_t rest = bytes % ENCODED_BYTES;

    return bytes / ENCODED_BYTES * (ENCODED_LINE + 2) + (rest > 0 ? (rest + 2) / 3 * 4 + 2 : 0);
}

void mime_base64_lines(struct buf *to, struct slice data)
{
    buf_reserve(to, base64_lines_length(data.len));
    for (size_t at = 0; at < data.len; at += ENCODED_BYTES) {
        size_t left = data.len - at;
        text_base64(to, slice_of(data.ptr + at, left < ENCODED_BYTES ? left : ENCODED_BYTES));
        buf_add(to, "\r\n", 2);
    }
}

const char *mime_encoding_name(enum mime_encoding encoding)
{
    static const char *const names[] = {"7bit", "quoted-printable", "base64"};

    return names[encoding];
}

/* A last line end that the text itself does not have: it belongs to nobody. */
static size_t surplus_of(struct slice text, enum mime_encoding encoding)
{
    if (encoding == MIME_BASE64)
        return 0;
    if (text.len == 0)
        return encoding == MIME_QUOTED_PRINTABLE ? 2 : 0;
    return line_end(text, text.len - 1) > 0 ? 0 : 2;
}

size_t mime_text_length(struct slice text, enum mime_encoding encoding)
{
    size_t surplus = surplus_of(text, encoding);

    switch (encoding) {
    case MIME_7BIT:
        return add_lines(NULL, text) - surplus;
    case MIME_QUOTED_PRINTABLE:
        return add_quoted_printable(NULL, text) - surplus;
    case MIME_BASE64:
        break;
    }
    return base64_lines_length(text.len);
}

void mime_put_text(struct buf *to, struct slice text, enum mime_encoding encoding)
{
    switch (encoding) {
    case MIME_7BIT:
        (void)add_lines(to, text);
        break;
    case MIME_QUOTED_PRINTABLE:
        (void)add_quoted_printable(to, text);
        break;
    case MIME_BASE64:
        mime_base64_lines(to, text);
        break;
    }
    to->len -= surplus_of(text, encoding);
}

static void add_text_part(struct buf *to, const char *type, struct slice text)
{
    enum mime_encoding encoding = mime_encoding_of(text);

    buf_printf(to, "Content-Type: %s; charset=utf-8\r\nContent-Transfer-Encoding: ", type);
    switch (encoding) {
    case MIME_7BIT:
        add_line(to, "7bit\r\n");
        (void)add_lines(to, text);
        return;
    case MIME_QUOTED_PRINTABLE:
        add_line(to, "quoted-printable\r\n");
        (void)add_quoted_printable(to, text);
        return;
    case MIME_BASE64:
        add_line(to, "base64\r\n");
        mime_base64_lines(to, text);
        return;
    }
}

/* ---- files ---- */

static bool is_plain_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] < ' ' || name.ptr[i] > '~')
            return false;
    return name.len <= FILENAME_PLAIN;
}

/* `;` and the parameter, on a line of its own. */
static void add_filename(struct buf *to, struct slice name)
{
    if (name.len == 0)
        return;
    if (is_plain_name(name)) {
        buf_add_str(to, ";\r\n filename=\"");
        for (size_t i = 0; i < name.len; i++) {
            if (name.ptr[i] == '"' || name.ptr[i] == '\\')
                buf_add_byte(to, '\\');
            buf_add_byte(to, name.ptr[i]);
        }
        buf_add_byte(to, '"');
        return;
    }
    struct buf escaped = {0};
    text_percent_encode(&escaped, name, "");
    struct slice left = buf_slice(&escaped);
    if (left.len <= FILENAME_PIECE) {
        buf_add_str(to, ";\r\n filename*=UTF-8''");
        buf_add_slice(to, left);
    }
    for (unsigned piece = 0; escaped.len > FILENAME_PIECE && left.len > 0; piece++) {
        size_t len = left.len < FILENAME_PIECE ? left.len : FILENAME_PIECE;
        for (size_t back = 1; back <= 2 && len < left.len; back++)
            if (left.ptr[len - back] == '%') {
                len -= back; /* an escape stays whole */
                break;
            }
        buf_printf(to, ";\r\n filename*%u*=%s", piece, piece == 0 ? "UTF-8''" : "");
        buf_add(to, left.ptr, len);
        left = slice_from(left, len);
    }
    buf_fini(&escaped);
}

/* A type as given, if it can stand in a header line; multipart and message types are bytes here. */
static struct slice type_of(struct slice given)
{
    struct slice fallback = SLICE("application/octet-stream");

    if (given.len == 0 || slice_find_byte(given, '/') == SIZE_MAX ||
        slice_starts_nocase(given, SLICE("multipart/")) ||
        slice_starts_nocase(given, SLICE("message/")))
        return fallback;
    for (size_t i = 0; i < given.len; i++)
        if (given.ptr[i] < ' ' || given.ptr[i] > '~')
            return fallback;
    return given;
}

static bool is_inline(const struct attachment *file)
{
    return file->content_id.len > 0;
}

static void add_content_id(struct buf *to, struct slice id)
{
    buf_add_str(to, "Content-ID: <");
    for (size_t i = 0; i < id.len; i++) {
        uint8_t c = id.ptr[i];
        if (c > ' ' && c <= '~' && c != '<' && c != '>')
            buf_add_byte(to, c);
        else
            buf_printf(to, "%%%02X", c); /* as a cid: URL has it, RFC 2392 */
    }
    buf_add_str(to, ">\r\n");
}

static void add_file(struct buf *to, const struct mime_message *m, size_t i)
{
    const struct attachment *file = &m->attachments[i];

    mime_put_field(to, SLICE("Content-Type"), type_of(file->content_type));
    buf_add_str(to, is_inline(file) ? "Content-Disposition: inline"
                                    : "Content-Disposition: attachment");
    add_filename(to, file->filename);
    buf_add(to, "\r\n", 2);
    if (is_inline(file))
        add_content_id(to, file->content_id);
    add_line(to, "Content-Transfer-Encoding: base64\r\n");
    if (m->encoded != NULL)
        buf_add_slice(to, m->encoded[i]);
    else
        mime_base64_lines(to, file->data);
}

/* Beside the HTML that shows it? Without HTML a file is only listed. */
static bool is_related(const struct mime_message *m, size_t i)
{
    return m->html.len > 0 && is_inline(&m->attachments[i]);
}

static size_t count_files(const struct mime_message *m, bool related)
{
    size_t count = 0;

    for (size_t i = 0; i < m->attachment_count; i++)
        count += is_related(m, i) == related;
    return count;
}

/* ---- structure ---- */

/* Cannot occur in what it separates: "=_" is in no quoted-printable and no base64 text, and 7bit
 * texts come from people who do not know the seed. */
static void boundary(char *out, const uint8_t *seed, char level)
{
    static const char hex[] = "0123456789abcdef";
    char *at = out;

    *at++ = '=';
    *at++ = '_';
    *at++ = level;
    for (size_t i = 0; i < SEED_BYTES; i++) {
        *at++ = hex[seed[i] >> 4];
        *at++ = hex[seed[i] & 15];
    }
    *at = '\0';
}

static void open_multipart(struct buf *to, const char *kind, const char *separator)
{
    buf_printf(to, "Content-Type: %s;\r\n boundary=\"%s\"\r\n\r\n", kind, separator);
}

static void next_part(struct buf *to, const char *separator)
{
    buf_printf(to, "\r\n--%s\r\n", separator);
}

static void close_multipart(struct buf *to, const char *separator)
{
    buf_printf(to, "\r\n--%s--\r\n", separator);
}

static void add_files(struct buf *to, const struct mime_message *m, bool related,
                      const char *separator)
{
    for (size_t i = 0; i < m->attachment_count; i++)
        if (is_related(m, i) == related) {
            next_part(to, separator);
            add_file(to, m, i);
        }
}

static void add_alternatives(struct buf *to, const struct mime_message *m)
{
    const struct {
        const char *type;
        struct slice text;
    } all[] = {{"text/plain", m->text}, {"text/x-amp-html", m->amp_html}, {"text/html", m->html}};
    char separator[BOUNDARY_BYTES];
    size_t present = 0, only = 0;

    for (size_t i = 0; i < 3; i++)
        if (all[i].text.len > 0) {
            present++;
            only = i;
        }
    if (present <= 1) {
        add_text_part(to, all[only].type, all[only].text);
        return;
    }
    boundary(separator, m->boundary_seed, 'a');
    open_multipart(to, "multipart/alternative", separator);
    for (size_t i = 0; i < 3; i++)
        if (all[i].text.len > 0) {
            next_part(to, separator);
            add_text_part(to, all[i].type, all[i].text);
        }
    close_multipart(to, separator);
}

static void add_related(struct buf *to, const struct mime_message *m)
{
    char separator[BOUNDARY_BYTES];

    if (count_files(m, true) == 0) {
        add_alternatives(to, m);
        return;
    }
    boundary(separator, m->boundary_seed, 'r');
    open_multipart(to, "multipart/related", separator);
    next_part(to, separator);
    add_alternatives(to, m);
    add_files(to, m, true, separator);
    close_multipart(to, separator);
}

size_t mime_content_length(const struct mime_message *m)
{
    const struct slice texts[] = {m->text, m->amp_html, m->html};
    size_t bytes = 0;

    for (size_t i = 0; i < m->header_count; i++)
        bytes += m->headers[i].name.len + m->headers[i].value.len;
    for (size_t i = 0; i < 3; i++)
        if (texts[i].len > 0)
            bytes += mime_text_length(texts[i], mime_encoding_of(texts[i]));
    for (size_t i = 0; i < m->attachment_count; i++)
        bytes += m->encoded != NULL ? m->encoded[i].len
                                    : base64_lines_length(m->attachments[i].data.len);
    return bytes;
}

void mime_write(struct buf *to, const struct mime_message *m)
{
    char separator[BOUNDARY_BYTES];

    for (size_t i = 0; i < m->header_count; i++)
        mime_put_field(to, m->headers[i].name, m->headers[i].value);
    add_line(to, "MIME-Version: 1.0");
    if (count_files(m, false) == 0) {
        add_related(to, m);
        return;
    }
    boundary(separator, m->boundary_seed, 'm');
    open_multipart(to, "multipart/mixed", separator);
    next_part(to, separator);
    add_related(to, m);
    add_files(to, m, false, separator);
    close_multipart(to, separator);
}
