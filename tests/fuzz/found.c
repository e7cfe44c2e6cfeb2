/*
 * Linked into each target: what it finds (crash-…, timeout-…, oom-…) is left beside its binary, below
 * build/, unless -artifact_prefix says otherwise, and not where somebody happens to start it.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char option[] = "-artifact_prefix=";
    size_t count = (size_t)*argc, room = sizeof option + strlen((*argv)[0]) + 1;
    bool said = false;

    for (size_t i = 1; i < count; i++)
        said = said || strncmp((*argv)[i], option, sizeof option - 1) == 0;
    char **all = calloc(count + 2, sizeof *all), *prefix = malloc(room);
    if (said || all == NULL || prefix == NULL) {
        free(all);
        free(prefix);
        return 0;
    }
    (void)snprintf(prefix, room, "%s%s-", option, (*argv)[0]);
    memcpy(all, *argv, count * sizeof *all);
    all[count] = prefix;
    *argv = all;
    *argc += 1;
    return 0;
}
