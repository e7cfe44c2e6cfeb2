#include "base/pack.h"

#include <msgpack.h>

/* -------- packing: msgpack-c, writing into a buf -------- */

static int put(void *data, const char *bytes, size_t len)
{
    buf_add(data, bytes, len);
    return 0;
}

static msgpack_packer packer(struct buf *b)
{
    msgpack_packer pk;

    msgpack_packer_init(&pk, b, put);
    return pk;
}

void pack_nil(struct buf *b)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_nil(&pk);
}

void pack_bool(struct buf *b, bool value)
{
    msgpack_packer pk = packer(b);
    (void)(value ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk));
}

void pack_u64(struct buf *b, uint64_t value)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_uint64(&pk, value);
}

void pack_i64(struct buf *b, int64_t value)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_int64(&pk, value);
}

void pack_str(struct buf *b, struct slice s)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_str(&pk, s.len);
    buf_add_slice(b, s);
}

void pack_bin(struct buf *b, struct slice s)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_bin(&pk, s.len);
    buf_add_slice(b, s);
}

void pack_array(struct buf *b, size_t count)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_array(&pk, count);
}

void pack_map(struct buf *b, size_t count)
{
    msgpack_packer pk = packer(b);
    (void)msgpack_pack_map(&pk, count);
}

/* -------- reading -------- */

enum { SKIP_DEPTH = 32 };

static void fail(struct unpack *u)
{
    u->bad = true;
    u->at = u->end;
}

static size_t left(const struct unpack *u)
{
    return (size_t)(u->end - u->at);
}

/* The next byte, which names the type; 0xc1 (never used by msgpack) when there is none. */
static uint8_t take_type(struct unpack *u)
{
    if (u->bad || u->at == u->end) {
        fail(u);
        return 0xc1;
    }
    return *u->at++;
}

static uint64_t take_be(struct unpack *u, size_t bytes)
{
    uint64_t value = 0;

    if (left(u) < bytes) {
        fail(u);
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | u->at[i];
    u->at += bytes;
    return value;
}

/* Reads any integer; *negative tells how to read the returned bits. */
static uint64_t take_int(struct unpack *u, bool *negative)
{
    uint8_t type = take_type(u);
    uint64_t bits;

    *negative = false;
    if (type <= 0x7f)
        return type;
    if (type >= 0xe0) {
        *negative = true;
        return (uint64_t)(int64_t)(int8_t)type;
    }
    switch (type) {
    case 0xcc:
        return take_be(u, 1);
    case 0xcd:
        return take_be(u, 2);
    case 0xce:
        return take_be(u, 4);
    case 0xcf:
        return take_be(u, 8);
    case 0xd0:
        bits = (uint64_t)(int64_t)(int8_t)take_be(u, 1);
        break;
    case 0xd1:
        bits = (uint64_t)(int64_t)(int16_t)take_be(u, 2);
        break;
    case 0xd2:
        bits = (uint64_t)(int64_t)(int32_t)take_be(u, 4);
        break;
    case 0xd3:
        bits = take_be(u, 8);
        break;
    default:
        fail(u);
        return 0;
    }
    *negative = (int64_t)bits < 0;
    return bits;
}

uint64_t unpack_u64(struct unpack *u)
{
    bool negative;
    uint64_t bits = take_int(u, &negative);

    if (negative) {
        fail(u);
        return 0;
    }
    return bits;
}

int64_t unpack_i64(struct unpack *u)
{
    bool negative;
    uint64_t bits = take_int(u, &negative);

    if (!negative && bits > INT64_MAX) {
        fail(u);
        return 0;
    }
    return (int64_t)bits;
}

bool unpack_bool(struct unpack *u)
{
    uint8_t type = take_type(u);

    if (type != 0xc2 && type != 0xc3)
        fail(u);
    return type == 0xc3;
}

struct slice unpack_str(struct unpack *u)
{
    uint8_t type = take_type(u);
    uint64_t len;

    if ((type & 0xe0) == 0xa0) {
        len = type & 0x1f;
    } else if (type == 0xd9 || type == 0xc4) {
        len = take_be(u, 1);
    } else if (type == 0xda || type == 0xc5) {
        len = take_be(u, 2);
    } else if (type == 0xdb || type == 0xc6) {
        len = take_be(u, 4);
    } else {
        fail(u);
        return (struct slice){0};
    }
    if (len > left(u)) {
        fail(u);
        return (struct slice){0};
    }
    struct slice s = slice_of(u->at, (size_t)len);
    u->at += len;
    return s;
}

static uint32_t take_count(struct unpack *u, uint8_t fix, uint8_t wide, size_t values_each)
{
    uint8_t type = take_type(u);
    uint64_t count;

    if ((type & 0xf0) == fix) {
        count = type & 0x0f;
    } else if (type == wide) {
        count = take_be(u, 2);
    } else if (type == wide + 1) {
        count = take_be(u, 4);
    } else {
        fail(u);
        return 0;
    }
    if (count > left(u) / values_each) { /* every value takes a byte at least */
        fail(u);
        return 0;
    }
    return (uint32_t)count;
}

uint32_t unpack_array(struct unpack *u)
{
    return take_count(u, 0x90, 0xdc, 1);
}

uint32_t unpack_map(struct unpack *u)
{
    return take_count(u, 0x80, 0xde, 2);
}

bool unpack_nil(struct unpack *u)
{
    if (u->bad || u->at == u->end || *u->at != 0xc0)
        return false;
    u->at++;
    return true;
}

static void skip(struct unpack *u, uint64_t values, int depth);

/* One that is no small integer and no short array, and no short text that is all there. */
static void skip_other(struct unpack *u, uint8_t type, int depth)
{
    bool negative;

    if (type == 0xc0 || type == 0xc2 || type == 0xc3)
        u->at++;
    else if (type >= 0xcc && type <= 0xd3)
        (void)take_int(u, &negative);
    else if (type == 0xdc || type == 0xdd)
        skip(u, unpack_array(u), depth - 1);
    else if ((type & 0xf0) == 0x80 || type == 0xde || type == 0xdf)
        skip(u, 2 * (uint64_t)unpack_map(u), depth - 1);
    else
        (void)unpack_str(u);
}

static void skip(struct unpack *u, uint64_t values, int depth)
{
    if (values > 0 && depth == 0)
        fail(u);
    for (; values > 0 && !u->bad; values--) {
        if (u->at == u->end) {
            fail(u);
            return;
        }
        uint8_t type = *u->at;
        if (type <= 0x7f || type >= 0xe0) {
            u->at++;
        } else if ((type & 0xf0) == 0x90) {
            u->at++;
            skip(u, type & 0x0f, depth - 1);
        } else if ((type & 0xe0) == 0xa0 && (size_t)(type & 0x1f) < left(u)) {
            u->at += 1 + (type & 0x1f);
        } else {
            skip_other(u, type, depth);
        }
    }
}

void unpack_skip(struct unpack *u, uint64_t values)
{
    skip(u, values, SKIP_DEPTH);
}
