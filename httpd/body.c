#include "httpd/body.h"

#include <event2/buffer.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/mem.h"
#include "httpd/reply.h"

enum { ROOM_FIRST_BYTES = 64 << 10, ANY_WRAPPING = 15 + 32 }; /* zlib's or gzip's, told apart */

static bool refuse(struct exchange *x, int status, struct slice message)
{
    if (status == 503)
        reply_later(x, status, 1, message);
    else
        reply_message(x, status, message);
    return false;
}

static bool is_gzip(struct slice encoding)
{
    return slice_eq_nocase(encoding, SLICE("gzip")) || slice_eq_nocase(encoding, SLICE("x-gzip"));
}

enum inflated { INFLATED, INFLATED_BAD, INFLATED_TOO_LONG };

/* One member after another until the input is used up. */
static enum inflated inflate_all(z_stream *z, struct buf *to, size_t most)
{
    for (int rc = Z_OK;;) {
        if (to->len > most)
            return INFLATED_TOO_LONG;
        buf_reserve(to, to->len == 0 ? ROOM_FIRST_BYTES : to->len);
        size_t room = to->cap - to->len;
        z->next_out = to->ptr + to->len;
        z->avail_out = room < UINT_MAX ? (uInt)room : UINT_MAX;
        rc = inflate(z, Z_NO_FLUSH);
        to->len = (size_t)(z->next_out - to->ptr);
        if (rc == Z_STREAM_END && z->avail_in == 0)
            return to->len > most ? INFLATED_TOO_LONG : INFLATED;
        if (rc == Z_STREAM_END)
            rc = inflateReset(z);
        else if (rc == Z_OK && z->avail_in == 0 && z->avail_out > 0)
            return INFLATED_BAD; /* cut off */
        if (rc != Z_OK)
            return INFLATED_BAD;
    }
}

static bool decompress(struct exchange *x, struct slice packed, struct slice *body)
{
    uint64_t most = x->service->me->config->httpd.max_body_bytes;
    struct buf plain = {0};
    z_stream z = {0};
    char words[64];

    if (packed.len > UINT_MAX || inflateInit2(&z, ANY_WRAPPING) != Z_OK)
        return refuse(x, 503, SLICE("Out of memory, nothing was done"));
    union {
        const uint8_t *in;
        uint8_t *out; /* zlib takes a pointer that it does not write through */
    } input = {.in = packed.ptr};
    z.next_in = input.out;
    z.avail_in = (uInt)packed.len;
    enum inflated got = inflate_all(&z, &plain, (size_t)most);
    (void)inflateEnd(&z);
    if (got == INFLATED)
        *body = arena_dup(&x->arena, buf_slice(&plain));
    buf_fini(&plain);
    if (got == INFLATED_BAD)
        return refuse(x, 400, SLICE("The body is not what its Content-Encoding says"));
    if (got == INFLATED_TOO_LONG) {
        server_size_words(most, words);
        return refuse(x, 413, slice_str(words));
    }
    return true;
}

bool body_read(struct exchange *x, struct slice *body)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(x->req);
    struct slice encoding = slice_trim(exchange_header(x, "Content-Encoding"));
    size_t len = evbuffer_get_length(input);

    *body = slice_of(len == 0 ? NULL : evbuffer_pullup(input, -1), len);
    if (len != 0 && body->ptr == NULL)
        return refuse(x, 503, SLICE("Out of memory, nothing was done"));
    if (encoding.len == 0 || slice_eq_nocase(encoding, SLICE("identity")))
        return true;
    if (!is_gzip(encoding) && !slice_eq_nocase(encoding, SLICE("deflate")))
        return refuse(x, 400, SLICE("Content-Encoding is not supported: gzip, deflate or none"));
    return decompress(x, *body, body);
}

bool body_read_form(struct exchange *x, struct form *form)
{
    struct refusal why;
    struct slice body;

    if (!body_read(x, &body))
        return false;
    if (form_parse(exchange_header(x, "Content-Type"), body, &x->arena, form, &why))
        return true;
    reply_message(x, why.status, why.message);
    return false;
}
