/* The Query protocol: forms, and lists out of XML. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "aws/endpoint.h"
#include "aws/query.h"

static const char document[] =
    "<?xml version=\"1.0\"?><R xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Result>"
    "<Attributes><entry><key>Policy</key><value>{&quot;a&quot;:1}</value></entry>"
    "<entry><key>Empty</key><value/></entry>"
    "<entry><key>Owner</key><value>111122223333</value></entry></Attributes>"
    "<List><member><Name>a</Name><Only>first</Only></member><member><Name>b</Name></member>"
    "</List></Result></R>";

static void assert_text(const char *path, const char *wanted)
{
    struct buf text = {0};

    assert_int_equal(xml_text(slice_str(document), path, &text),
                     wanted != NULL ? XML_FOUND : XML_ABSENT);
    if (wanted != NULL)
        assert_string_equal(buf_cstr(&text), wanted);
    buf_fini(&text);
}

static void a_name_can_be_counted_within_its_parent(void **unused)
{
    (void)unused;
    assert_text("R/Result/Attributes/entry[1]/key", "Policy");
    assert_text("R/Result/Attributes/entry[3]/value", "111122223333");
    assert_text("R/Result/Attributes/entry[2]/value", "");
    assert_text("R/Result/Attributes/entry[4]/value", NULL);
    assert_text("R/Result/List/member[2]/Name", "b");
    assert_text("R/Result/List/member[2]/Name[1]", "b"); /* counted anew in each parent */
    assert_text("R/Result/List/member[2]/Only", NULL);
    assert_text("R/Result/List/member/Name", "a"); /* not counted: the first of all */
}

static void a_map_takes_pairs_of_any_element_names(void **unused)
{
    cJSON *map = query_map(slice_str(document), "R/Result/Attributes", "entry", "key", "value");

    (void)unused;
    assert_int_equal(cJSON_GetArraySize(map), 3);
    assert_true(slice_eq(json_get_text(map, "Policy"), SLICE("{\"a\":1}")));
    assert_true(slice_eq(json_get_text(map, "Owner"), SLICE("111122223333")));
    json_free(map);
    map = query_map(SLICE("no XML"), "R/Result/Attributes", "entry", "key", "value");
    assert_int_equal(cJSON_GetArraySize(map), 0);
    json_free(map);
}

static void a_form_is_encoded_with_percents_alone(void **unused)
{
    struct buf form = {0};

    (void)unused;
    query_begin(&form, AWS_SNS, "Subscribe");
    query_add(&form, "TopicArn", SLICE("arn:aws:sns:eu-west-1:1:t"));
    query_add_entry(&form, "Attributes", 2, "Policy", SLICE("{\"a b\":1}"));
    assert_string_equal(buf_cstr(&form),
                        "Action=Subscribe&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1"
                        "%3A1%3At&Attributes.entry.2.key=Policy&Attributes.entry.2.value=%7B%22a"
                        "%20b%22%3A1%7D");
    buf_fini(&form);
}

static void iam_is_one_for_all_regions_of_a_partition(void **unused)
{
    static const char *const cases[][3] = {
        {"eu-west-1", "us-east-1", "https://iam.amazonaws.com"},
        {"cn-northwest-1", "cn-north-1", "https://iam.cn-north-1.amazonaws.com.cn"},
        {"us-gov-east-1", "us-gov-west-1", "https://iam.us-gov.amazonaws.com"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf url = {0};
        const char *region = endpoint_iam_region(slice_str(cases[i][0]));
        assert_string_equal(region, cases[i][1]);
        endpoint_put_iam(&url, region);
        assert_string_equal(buf_cstr(&url), cases[i][2]);
        buf_fini(&url);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_can_be_counted_within_its_parent),
        cmocka_unit_test(a_map_takes_pairs_of_any_element_names),
        cmocka_unit_test(a_form_is_encoded_with_percents_alone),
        cmocka_unit_test(iam_is_one_for_all_regions_of_a_partition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
