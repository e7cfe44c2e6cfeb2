/* Error answers as a stranger might write them: the first line is x-amzn-ErrorType, the second
 * x-amzn-query-error, the third the status, and the rest the body. */
#include <assert.h>

#include "aws/error.h"
#include "aws/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size), type, query, status;
    struct arena arena = {0};
    struct aws_error error;
    uint64_t number = 0;

    (void)slice_cut(rest, '\n', &type, &rest);
    (void)slice_cut(rest, '\n', &query, &rest);
    (void)slice_cut(rest, '\n', &status, &rest);
    (void)slice_to_u64(slice_head(status, 3), &number);
    aws_error_read(&arena, &(struct aws_error_fields){type, query, {0}}, rest, &error);
    assert(error.text.len <= AWS_ERROR_TEXT_MAX);
    assert(slice_find_byte(error.code, ':') == SIZE_MAX);
    assert(slice_find_byte(error.code, '#') == SIZE_MAX);

    struct aws_response answer = {.fate = AWS_ANSWERED,
                                  .status = (int)number,
                                  .error_code = error.code,
                                  .error_text = error.text};
    enum aws_reaction reaction = aws_send_reaction(&answer);
    /* Only a success is a success, and no answer is a doubt. */
    assert((reaction == AWS_OK) == (number >= 200 && number < 300));
    assert(reaction != AWS_IN_DOUBT);
    arena_fini(&arena);
    return 0;
}
