/* recipient-variables from anyone, against cJSON: whatever is an object here is one there, with the
 * same members. (cJSON takes some texts that are no JSON; they are refused here.) */
#include <assert.h>

#include "base/json.h"
#include "mail/variables.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct slice text = slice_of(data, size);
    struct members m;
    struct slice name, value;
    enum members_result result = MEMBERS_BAD;
    size_t count = 0;

    if (members_open(&m, text))
        while ((result = members_next(&m, &a, &name, &value)) == MEMBERS_OK) {
            count++;
            assert(value.len > 0);
            struct slice shown = json_value_text(value, &a);
            assert(shown.len <= value.len);
            assert(!slice_is_utf8(text) || slice_is_utf8(shown));
        }
    /* cJSON refuses halves of surrogate pairs and \u0000 within names: not compared. */
    if (result == MEMBERS_END && slice_find(text, SLICE("\\u")) == SIZE_MAX) {
        cJSON *tree = json_parse(text);
        assert(cJSON_IsObject(tree));
        assert((size_t)cJSON_GetArraySize(tree) == count);
        (void)members_open(&m, text);
        for (const cJSON *v = json_first(tree); v != NULL; v = v->next) {
            assert(members_next(&m, &a, &name, &value) == MEMBERS_OK);
            assert(slice_eq(name, slice_str(v->string)));
            assert(json_is_object(value) == (bool)cJSON_IsObject(v));
            if (cJSON_IsString(v))
                assert(slice_eq(json_value_text(value, &a), json_text(v)));
        }
        json_free(tree);
    }
    arena_fini(&a);
    return 0;
}
