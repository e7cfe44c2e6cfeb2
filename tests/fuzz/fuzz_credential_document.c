/* What a source of credentials answers, as a stranger might: the first byte says which source. */
#include <assert.h>

#include "aws/credential_document.h"
#include "aws/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_as(uint8_t kind, struct slice text, struct credentials *c)
{
    struct err err = {0};
    int result = kind % 3 == 0   ? document_read_metadata(text, "there", c, &err)
                 : kind % 3 == 1 ? document_read_process(text, "there", c, &err)
                                 : document_read_sts(text, "AssumeRole", "there", c, &err);

    assert((result == 0) == (err.code == ERR_NONE));
    return result;
}

/* What comes out can stand in a field line, goes through the vault's record, and is all there. */
static void check(const struct credentials *c)
{
    struct credentials again;
    struct buf packed = {0};

    assert(c->access_key_id[0] != '\0' && c->secret_access_key[0] != '\0');
    for (const char *at = c->session_token; *at != '\0'; at++)
        assert(*at > ' ' && *at <= '~');
    credentials_pack(&packed, c);
    bool whole = credentials_unpack(buf_slice(&packed), &again);
    assert(whole && credentials_same_keys(c, &again));
    assert(again.expires_wall_ms == c->expires_wall_ms);
    credentials_fini(&again);
    buf_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct credentials c = {0};
    struct buf text = {0};

    if (size == 0)
        return 0;
    struct slice rest = slice_of(data + 1, size - 1);
    if (read_as(data[0], rest, &c) == 0)
        check(&c);
    credentials_fini(&c);
    (void)credentials_unpack(rest, &c);
    credentials_fini(&c);
    if (xml_text(rest, "a/b", &text) != XML_FOUND)
        assert(text.len == 0);
    buf_fini(&text);
    return 0;
}
