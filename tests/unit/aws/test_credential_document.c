/* What brings credentials: JSON of three kinds and STS's XML, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "aws/credential_document.h"
#include "aws/xml.h"

#define KEYS "\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"s3cr3t/+=\""

typedef int reader(struct slice text, const char *where, struct credentials *c, struct err *err);

static int read_sts(struct slice text, const char *where, struct credentials *c, struct err *err)
{
    return document_read_sts(text, "AssumeRole", where, c, err);
}

static void assert_refused(reader *read, const char *text, const char *words)
{
    struct credentials c = {0};
    struct err err = {0};

    assert_int_equal(read(slice_str(text), "there", &c, &err), -1);
    assert_null(c.access_key_id);
    if (strstr(err.text, words) == NULL || strstr(err.text, "s3cr3t") != NULL)
        fail_msg("\"%s\" should say \"%s\" of %s", err.text, words, text);
}

static void metadata_is_read(void **unused)
{
    struct credentials c = {0};
    struct err err;

    (void)unused;
    assert_int_equal(
        document_read_metadata(SLICE("{\"Code\":\"Success\"," KEYS ",\"Token\":\"t0ken==\","
                                     "\"Expiration\":\"2026-03-01T18:20:05Z\",\"New\":[1]}"),
                               "there", &c, &err),
        0);
    assert_string_equal(c.access_key_id, "ASIA");
    assert_string_equal(c.secret_access_key, "s3cr3t/+=");
    assert_string_equal(c.session_token, "t0ken==");
    assert_true(c.expires_wall_ms == UINT64_C(1772389205000));
    credentials_fini(&c);
}

static void metadata_that_is_no_answer_is_refused(void **unused)
{
    (void)unused;
    assert_refused(document_read_metadata, "", "no JSON");
    assert_refused(document_read_metadata, "<html>", "no JSON");
    assert_refused(document_read_metadata, "[]", "Expiration");
    assert_refused(document_read_metadata,
                   "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no\"}",
                   "AssumeRoleUnauthorizedAccess: no");
    assert_refused(document_read_metadata, "{" KEYS "}", "Expiration");
    assert_refused(document_read_metadata, "{" KEYS ",\"Expiration\":\"soon\"}", "Expiration");
    assert_refused(document_read_metadata,
                   "{\"AccessKeyId\":\"A\",\"Expiration\":\"2026-03-01T18:20:05Z\"}",
                   "secret access key is missing");
    assert_refused(document_read_metadata,
                   "{\"AccessKeyId\":\"A\\r\\nX-Evil: 1\",\"SecretAccessKey\":\"s3cr3t\","
                   "\"Expiration\":\"2026-03-01T18:20:05Z\"}",
                   "visible ASCII");
}

static void a_programs_output_is_read(void **unused)
{
    struct credentials c = {0};
    struct err err;

    (void)unused;
    assert_int_equal(document_read_process(SLICE("{\"Version\":1," KEYS "}\n"), "there", &c, &err),
                     0);
    assert_string_equal(c.session_token, "");
    assert_int_equal(c.expires_wall_ms, 0);
    credentials_fini(&c);
    assert_int_equal(
        document_read_process(SLICE("{\"Version\":1," KEYS ",\"SessionToken\":\"t\","
                                    "\"Expiration\":\"2026-03-01T20:20:05.250+02:00\"}"),
                              "there", &c, &err),
        0);
    assert_string_equal(c.session_token, "t");
    assert_true(c.expires_wall_ms == UINT64_C(1772389205250));
    credentials_fini(&c);
    assert_refused(document_read_process, "{" KEYS "}", "Version");
    assert_refused(document_read_process, "{\"Version\":2," KEYS "}", "Version");
    assert_refused(document_read_process, "{\"Version\":1," KEYS ",\"Expiration\":\"x\"}",
                   "Expiration");
    assert_refused(document_read_process, "{\"Version\":1}", "access key id is missing");
}

#define STS(inner)                                                                                 \
    "<?xml version=\"1.0\"?>\n<AssumeRoleResponse "                                                \
    "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>" inner                 \
    "</AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"             \
    "</AssumeRoleResponse>"
#define STS_KEYS                                                                                   \
    "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s3cr3t</SecretAccessKey>"                     \
    "<SessionToken>\n  t0k&#x65;n&amp;\n</SessionToken>"

static void what_sts_says_is_read(void **unused)
{
    struct credentials c = {0};
    struct err err;

    (void)unused;
    assert_int_equal(
        read_sts(SLICE(STS("<AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials>" STS_KEYS
                           "<Expiration>2026-03-01T18:20:05Z</Expiration></Credentials>")),
                 "there", &c, &err),
        0);
    assert_string_equal(c.access_key_id, "ASIA");
    assert_string_equal(c.secret_access_key, "s3cr3t");
    assert_string_equal(c.session_token, "t0ken&");
    assert_true(c.expires_wall_ms == UINT64_C(1772389205000));
    credentials_fini(&c);
    assert_refused(read_sts, STS("<Credentials>" STS_KEYS "</Credentials>"), "no Expiration");
    assert_refused(read_sts, STS(STS_KEYS), "no AccessKeyId"); /* not where they belong */
    assert_refused(read_sts, "{}", "no XML");
    assert_refused(read_sts, "", "no XML");
}

static void assert_xml(const char *document, const char *path, enum xml_result result,
                       const char *text)
{
    struct buf got = {0};

    if (xml_text(slice_str(document), path, &got) != result || strcmp(buf_cstr(&got), text) != 0)
        fail_msg("%s of %s is \"%s\"", path, document, buf_cstr(&got));
    buf_fini(&got);
}

static void xml_is_read_strictly(void **unused)
{
    (void)unused;
    assert_xml("<a><b>x</b></a>", "a/b", XML_FOUND, "x");
    assert_xml(" <a> <b>x</b> <b>y</b> </a> ", "a/b", XML_FOUND, "x");
    assert_xml("<a>1<b>x</b>2</a>", "a", XML_FOUND, "12");
    assert_xml("<n:a q='>' r=\"'\" ><n:b/></n:a>", "a/b", XML_FOUND, "");
    assert_xml("<a><!-- <b>no</b> --><b>&lt;<![CDATA[<&]]>&#8364;</b></a>", "a/b", XML_FOUND,
               "<<&\xe2\x82\xac");
    assert_xml("<a><c><b>x</b></c></a>", "a/b", XML_ABSENT, "");
    assert_xml("<a><b><b>x</b></b></a>", "a/b/b", XML_FOUND, "x");
    static const char *const broken[] = {
        "",
        "text",
        "<a>",
        "</a>",
        "<a></b>",
        "<a/><a/>",
        "<a/>text",
        "<a><b>x</a></b>",
        "<a>&unknown;</a>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&amp</a>",
        "<a b></a>",
        "<a b=c></a>",
        "<a b=\"<\"></a>",
        "<a b=\"1\"c=\"2\"></a>",
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        "<a><![CDATA[x</a>",
        "<a><!-- x</a>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>",
        "<a><b>x</b>", /* cut off behind what was looked for */
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_xml(broken[i], "a/b", XML_BROKEN, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_is_read),
        cmocka_unit_test(metadata_that_is_no_answer_is_refused),
        cmocka_unit_test(a_programs_output_is_read),
        cmocka_unit_test(what_sts_says_is_read),
        cmocka_unit_test(xml_is_read_strictly),
    };
    return cmocka_run_group_tests_name("aws/credential_document", tests, NULL, NULL);
}
