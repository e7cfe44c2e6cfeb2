#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "mail/mime.h"

static const uint8_t seed[16] = "0123456789abcdef";

/* A reader of MIME as plain as can be: header lines unfolded, parts found by their boundary, bodies
 * decoded. Everything it meets that no mail may hold fails the test. */

static struct slice header_end(struct slice mail, struct slice *body)
{
    size_t at = slice_find(mail, SLICE("\r\n\r\n"));

    assert_int_not_equal(at, SIZE_MAX);
    *body = slice_from(mail, at + 4);
    return slice_head(mail, at + 2);
}

/* The value of a header field, unfolded, in *value; false when there is none. */
static bool field(struct slice head, const char *name, struct buf *value)
{
    buf_reset(value);
    for (bool found = false; head.len > 0;) {
        size_t end = slice_find(head, SLICE("\r\n"));
        struct slice line = slice_head(head, end);
        head = slice_from(head, end + 2);
        if (line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) {
            if (found)
                buf_add_slice(value, line);
            continue;
        }
        if (found)
            return true;
        size_t colon = slice_find_byte(line, ':');
        assert_int_not_equal(colon, SIZE_MAX);
        if (!slice_eq_nocase(slice_head(line, colon), slice_str(name)))
            continue;
        found = true;
        buf_add_slice(value, slice_from(line, colon + 2));
        if (head.len == 0)
            return true;
    }
    return value->len > 0;
}

static void assert_lines(struct slice mail, size_t longest)
{
    size_t line = 0;

    for (size_t i = 0; i < mail.len; i++) {
        if (mail.ptr[i] == '\n') {
            assert_true(i > 0 && mail.ptr[i - 1] == '\r');
            line = 0;
            continue;
        }
        assert_true(mail.ptr[i] < 0x80 && mail.ptr[i] != 0);
        if (mail.ptr[i] == '\r')
            assert_true(i + 1 < mail.len && mail.ptr[i + 1] == '\n');
        else
            assert_true(++line <= longest);
    }
}

static void decode_quoted(struct slice text, struct buf *to)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '=') {
            buf_add_byte(to, text.ptr[i]);
            continue;
        }
        assert_true(i + 2 < text.len);
        if (text.ptr[i + 1] != '\r')
            assert_true(text_from_hex(to, slice_of(text.ptr + i + 1, 2)));
        i += 2;
    }
}

static void decode(struct slice part, struct buf *to)
{
    struct slice body, head = header_end(part, &body);
    struct buf encoding = {0}, joined = {0};

    assert_true(field(head, "Content-Transfer-Encoding", &encoding));
    buf_reset(to);
    if (slice_eq(buf_slice(&encoding), SLICE("7bit"))) {
        assert_lines(body, 998);
        buf_add_slice(to, body);
    } else if (slice_eq(buf_slice(&encoding), SLICE("quoted-printable"))) {
        assert_lines(body, 76);
        decode_quoted(body, to);
    } else {
        assert_string_equal(buf_cstr(&encoding), "base64");
        assert_lines(body, 76);
        for (size_t i = 0; i < body.len; i++)
            if (body.ptr[i] != '\r' && body.ptr[i] != '\n')
                buf_add_byte(&joined, body.ptr[i]);
        assert_true(text_from_base64(to, buf_slice(&joined)));
    }
    buf_fini(&encoding);
    buf_fini(&joined);
}

/* The parts of a multipart; their count. */
static size_t parts_of(struct slice part, const char *kind, struct slice list[8])
{
    struct slice body, head = header_end(part, &body);
    struct buf type = {0}, line = {0};
    size_t count = 0;

    assert_true(field(head, "Content-Type", &type));
    assert_true(slice_starts(buf_slice(&type), slice_str(kind)));
    size_t at = slice_find(buf_slice(&type), SLICE("boundary=\""));
    assert_int_not_equal(at, SIZE_MAX);
    struct slice boundary = slice_from(buf_slice(&type), at + 10);
    boundary = slice_head(boundary, slice_find_byte(boundary, '"'));
    buf_add_str(&line, "\r\n--");
    buf_add_slice(&line, boundary);
    at = slice_find(body, buf_slice(&line));
    assert_int_not_equal(at, SIZE_MAX);
    while (true) {
        body = slice_from(body, at + line.len);
        if (slice_starts(body, SLICE("--\r\n")))
            break;
        assert_true(slice_starts(body, SLICE("\r\n")));
        body = slice_from(body, 2);
        at = slice_find(body, buf_slice(&line));
        assert_int_not_equal(at, SIZE_MAX);
        assert_true(count < 8);
        list[count++] = slice_head(body, at);
    }
    buf_fini(&type);
    buf_fini(&line);
    return count;
}

static void assert_type(struct slice part, const char *want)
{
    struct slice body, head = header_end(part, &body);
    struct buf type = {0};

    assert_true(field(head, "Content-Type", &type));
    assert_true(slice_starts(buf_slice(&type), slice_str(want)));
    buf_fini(&type);
}

static void assert_decodes(struct slice part, const char *type, const char *want)
{
    struct buf text = {0};

    assert_type(part, type);
    decode(part, &text);
    assert_string_equal(buf_cstr(&text), want);
    buf_fini(&text);
}

static struct slice write_mail(struct buf *to, struct mime_message *m)
{
    m->boundary_seed = seed;
    buf_reset(to);
    mime_write(to, m);
    assert_lines(buf_slice(to), 998);
    assert_int_not_equal(slice_find(buf_slice(to), SLICE("MIME-Version: 1.0\r\n")), SIZE_MAX);
    return buf_slice(to);
}

static void structure_is_the_smallest_that_holds_everything(void **state)
{
    struct attachment files[] = {
        {.filename = SLICE("logo.png"),
         .content_type = SLICE("image/png"),
         .content_id = SLICE("logo.png"),
         .data = SLICE("\x89PNG")},
        {.filename = SLICE("a.pdf"), .content_type = SLICE("application/pdf"), .data = SLICE("P")},
    };
    struct mime_message m = {.text = SLICE("t\n")};
    struct slice list[8], inner[8], deep[8];
    struct buf mail = {0};

    (void)state;
    assert_decodes(write_mail(&mail, &m), "text/plain; charset=utf-8", "t\r\n");
    m = (struct mime_message){0};
    assert_decodes(write_mail(&mail, &m), "text/plain", "");
    m = (struct mime_message){.html = SLICE("<p>")};
    assert_decodes(write_mail(&mail, &m), "text/html; charset=utf-8", "<p>\r\n");
    m.text = SLICE("t");
    m.amp_html = SLICE("<html amp4email>");
    assert_int_equal(parts_of(write_mail(&mail, &m), "multipart/alternative", list), 3);
    assert_decodes(list[0], "text/plain", "t\r\n");
    assert_decodes(list[1], "text/x-amp-html", "<html amp4email>\r\n");
    assert_decodes(list[2], "text/html", "<p>\r\n");
    m.attachments = files;
    m.attachment_count = 2;
    assert_int_equal(parts_of(write_mail(&mail, &m), "multipart/mixed", list), 2);
    assert_decodes(list[1], "application/pdf", "P");
    assert_int_equal(parts_of(list[0], "multipart/related", inner), 2);
    assert_decodes(inner[1], "image/png", "\x89PNG");
    assert_int_not_equal(slice_find(inner[1], SLICE("\r\nContent-ID: <logo.png>\r\n")), SIZE_MAX);
    assert_int_not_equal(slice_find(inner[1], SLICE("\r\nContent-Disposition: inline;")), SIZE_MAX);
    assert_int_equal(parts_of(inner[0], "multipart/alternative", deep), 3);
    m.attachment_count = 1;
    assert_int_equal(parts_of(write_mail(&mail, &m), "multipart/related", list), 2);
    /* Nothing shows an inline part without HTML: it is a file like others. */
    m.html = m.amp_html = slice_none();
    assert_int_equal(parts_of(write_mail(&mail, &m), "multipart/mixed", list), 2);
    assert_decodes(list[0], "text/plain", "t\r\n");
    buf_fini(&mail);
}

static void texts_arrive_as_they_were_whatever_they_hold(void **state)
{
    static char wide[3000];
    static const struct {
        const char *text, *encoding, *want;
    } cases[] = {
        {"plain", "7bit", "plain\r\n"},
        {"a = b\r\nc\rd\ne", "7bit", "a = b\r\nc\r\nd\r\ne\r\n"},
        {"Grüße aus Köln, und so weiter und so fort", "quoted-printable",
         "Grüße aus Köln, und so weiter und so fort\r\n"},
        {"ends in blanks ü \nand tabs\t\n.\nFrom me\n", "quoted-printable",
         "ends in blanks ü \r\nand tabs\t\r\n.\r\nFrom me\r\n"},
        {"日本語のニュースレター", "base64", "日本語のニュースレター"},
        {wide, "quoted-printable", NULL},
    };
    struct buf mail = {0}, text = {0};

    (void)state;
    memset(wide, 'x', sizeof wide - 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mime_message m = {.text = slice_str(cases[i].text)};
        struct slice body, head = header_end(write_mail(&mail, &m), &body);
        assert_true(field(head, "Content-Transfer-Encoding", &text));
        assert_string_equal(buf_cstr(&text), cases[i].encoding);
        decode(buf_slice(&mail), &text);
        if (cases[i].want == NULL)
            text.len -= 2; /* the line end that every text gets */
        assert_string_equal(buf_cstr(&text), cases[i].want == NULL ? wide : cases[i].want);
    }
    buf_fini(&mail);
    buf_fini(&text);
}

/* Every byte, at every place of a line. */
static void quoted_printable_holds_any_bytes(void **state)
{
    struct buf text = {0}, mail = {0}, back = {0};

    (void)state;
    for (unsigned shift = 0; shift < 80; shift++) {
        buf_reset(&text);
        for (unsigned i = 0; i < shift; i++)
            buf_add_byte(&text, 'a');
        for (unsigned c = 0; c < 256; c++)
            if (c != '\r' && c != '\n') {
                buf_add_byte(&text, (uint8_t)c);
                buf_add_str(&text, "aaa ");
            }
        struct mime_message m = {.html = buf_slice(&text)};
        decode(write_mail(&mail, &m), &back);
        back.len -= 2;
        assert_true(slice_eq(buf_slice(&back), buf_slice(&text)));
    }
    buf_fini(&text);
    buf_fini(&mail);
    buf_fini(&back);
}

/* Texts of what encodings treat in ways of their own, and of any length around a line's. */
static void random_text(struct buf *text, uint64_t *random)
{
    static const char *const pieces[] = {"\n",    "\r\n", "\r", "=",    ".",
                                         "From ", "--",   " ",  "\t",   "a",
                                         "word",  "\x01", "ö",  "\xff", "a longer run of text"};

    buf_reset(text);
    *random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17;
    for (uint64_t n = *random % 120; n > 0; n--) {
        *random ^= *random << 13, *random ^= *random >> 7, *random ^= *random << 17;
        buf_add_str(text, pieces[*random % (sizeof pieces / sizeof pieces[0])]);
    }
}

static void lengths_are_known_before_anything_is_written(void **state)
{
    static const enum mime_encoding all[] = {MIME_7BIT, MIME_QUOTED_PRINTABLE, MIME_BASE64};
    struct buf text = {0}, mail = {0};
    uint64_t random = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        random_text(&text, &random);
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            buf_reset(&mail);
            mime_put_text(&mail, buf_slice(&text), all[i]);
            assert_int_equal(mime_text_length(buf_slice(&text), all[i]), mail.len);
        }
        if (text.len == 0)
            continue;
        const struct attachment file = {.data = buf_slice(&text), .filename = SLICE("f")};
        struct name_value header = {SLICE("Subject"), SLICE("Hello")};
        struct mime_message m = {.text = buf_slice(&text),
                                 .html = buf_slice(&text),
                                 .headers = &header,
                                 .header_count = 1,
                                 .attachments = &file,
                                 .attachment_count = 1,
                                 .boundary_seed = seed};
        buf_reset(&mail);
        mime_write(&mail, &m);
        size_t content = mime_content_length(&m);
        assert_true(content <= mail.len && mail.len <= content + 1000);
    }
    buf_fini(&text);
    buf_fini(&mail);
}

static void headers_fold_and_unfold_to_the_same(void **state)
{
    static char word[300];
    struct buf value = {0}, mail = {0}, back = {0};

    (void)state;
    memset(word, 'w', 120);
    for (int i = 0; i < 30; i++)
        buf_printf(&value, "%s word%d", i % 7 == 3 ? "  " : i == 0 ? "" : ",", i);
    buf_printf(&value, " %s end ", word);
    struct name_value headers[] = {{SLICE("Subject"), buf_slice(&value)},
                                   {SLICE("X-Empty"), SLICE("-")}};
    struct mime_message m = {.headers = headers, .header_count = 2};
    struct slice body, head = header_end(write_mail(&mail, &m), &body);
    assert_true(field(head, "Subject", &back));
    assert_true(slice_eq(buf_slice(&back), buf_slice(&value)));
    assert_true(field(head, "X-Empty", &back));
    /* Short lines but for the one word that cannot be broken; none of blanks alone. */
    while (head.len > 0) {
        size_t end = slice_find(head, SLICE("\r\n"));
        struct slice line = slice_head(head, end);
        assert_true(line.len <= 78 || slice_find(line, slice_str(word)) != SIZE_MAX);
        assert_true(slice_trim(line).len > 0);
        head = slice_from(head, end + 2);
    }
    buf_fini(&value);
    buf_fini(&mail);
    buf_fini(&back);
}

static void odd_files_stay_files(void **state)
{
    static char name[200];
    struct attachment files[] = {
        {.filename = SLICE("a \"b\" \\c.txt"), .data = SLICE("1")},
        {.filename = SLICE("Ölbild.png"), .content_type = SLICE("image/png; x=1")},
        {.filename = slice_str(name), .content_type = SLICE("multipart/mixed; boundary=x")},
        {.content_type = SLICE("text/plain\r\nX-Evil: 1"), .data = SLICE("4")},
        {.content_type = SLICE("nonsense"), .data = SLICE("5")},
    };
    struct mime_message m = {.text = SLICE("t"), .attachments = files, .attachment_count = 5};
    struct slice list[8], body;
    struct buf mail = {0}, value = {0};

    (void)state;
    for (size_t i = 0; i + 3 < sizeof name; i += 3)
        memcpy(name + i, "aü", 3);
    files[2].filename = slice_str(name);
    assert_int_equal(parts_of(write_mail(&mail, &m), "multipart/mixed", list), 6);
    assert_true(field(header_end(list[1], &body), "Content-Disposition", &value));
    assert_string_equal(buf_cstr(&value), "attachment; filename=\"a \\\"b\\\" \\\\c.txt\"");
    assert_true(field(header_end(list[2], &body), "Content-Disposition", &value));
    assert_string_equal(buf_cstr(&value), "attachment; filename*=UTF-8''%C3%96lbild.png");
    assert_type(list[2], "image/png; x=1");
    /* Pieces in order, no escape cut in two. */
    assert_true(field(header_end(list[3], &body), "Content-Disposition", &value));
    struct buf whole = {0}, decoded = {0};
    for (unsigned piece = 0;; piece++) {
        char label[32];
        (void)snprintf(label, sizeof label, "filename*%u*=", piece);
        size_t at = slice_find(buf_slice(&value), slice_str(label));
        if (at == SIZE_MAX)
            break;
        struct slice text = slice_from(buf_slice(&value), at + strlen(label));
        size_t end = slice_find_byte(text, ';');
        text = slice_head(text, end == SIZE_MAX ? text.len : end);
        if (piece == 0) {
            assert_true(slice_starts(text, SLICE("UTF-8''")));
            text = slice_from(text, 7);
        }
        buf_reset(&decoded);
        assert_true(text_percent_decode(&decoded, text, false));
        buf_add_slice(&whole, buf_slice(&decoded));
    }
    assert_true(slice_eq(buf_slice(&whole), slice_str(name)));
    for (size_t i = 3; i < 6; i++)
        assert_type(list[i], "application/octet-stream");
    assert_int_equal(slice_find(buf_slice(&mail), SLICE("X-Evil")), SIZE_MAX);
    buf_fini(&whole);
    buf_fini(&decoded);
    buf_fini(&value);
    buf_fini(&mail);
}

static void encoded_files_are_taken_as_they_are(void **state)
{
    struct attachment file = {.filename = SLICE("f"), .data = SLICE("not looked at")};
    struct buf lines = {0}, mail = {0};
    uint8_t bytes[200];
    struct slice list[8];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    mime_base64_lines(&lines, slice_of(bytes, sizeof bytes));
    struct slice encoded = buf_slice(&lines);
    struct mime_message m = {
        .text = SLICE("t"), .attachments = &file, .attachment_count = 1, .encoded = &encoded};
    assert_int_equal(parts_of(write_mail(&mail, &m), "multipart/mixed", list), 2);
    struct buf back = {0};
    decode(list[1], &back);
    assert_true(slice_eq(buf_slice(&back), slice_of(bytes, sizeof bytes)));
    buf_fini(&back);
    buf_fini(&lines);
    buf_fini(&mail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structure_is_the_smallest_that_holds_everything),
        cmocka_unit_test(texts_arrive_as_they_were_whatever_they_hold),
        cmocka_unit_test(quoted_printable_holds_any_bytes),
        cmocka_unit_test(lengths_are_known_before_anything_is_written),
        cmocka_unit_test(headers_fold_and_unfold_to_the_same),
        cmocka_unit_test(odd_files_stay_files),
        cmocka_unit_test(encoded_files_are_taken_as_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
