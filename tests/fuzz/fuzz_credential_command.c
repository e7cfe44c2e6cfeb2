/* credential_process: any text, split into words. */
#include <assert.h>

#include "aws/credential_process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *words[PROCESS_WORDS_MAX + 1] = {0};
    struct arena arena = {0};
    struct err err = {0};
    size_t count = 0, bytes = 0;

    if (process_split(&arena, slice_of(data, size), words, &err) == 0) {
        for (; words[count] != NULL; count++)
            bytes += strlen(words[count]);
        assert(count > 0 && count <= PROCESS_WORDS_MAX && words[0][0] != '\0');
        assert(bytes <= size);
    } else {
        assert(err.text[0] != '\0');
    }
    arena_fini(&arena);
    return 0;
}
