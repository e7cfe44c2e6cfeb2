/*
 *   file   header (a page) | sender 0: cells | sender 1: cells | …
 *
 * A cell is emptied before it is given a new lease id, and the id is stored last: a reader that
 * finds the id finds a mask of that lease.
 */
#include "shm/started.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { BOOT_BYTES = 40, LAYOUT = 1 };

static const char magic[16] = "postern-started";

struct started_cell {
    _Atomic uint64_t lease_id; /* 0 = empty */
    _Atomic uint64_t mask;
};

struct started_file {
    char magic[16];
    uint32_t layout, cells, senders;
    char boot[BOOT_BYTES];
    _Alignas(4096) struct started_cell cell[STARTED_SENDERS][STARTED_CELLS];
};

struct started {
    struct started_file *file;
};

/* The kernel's id of this boot; empty when it tells none (then nothing is ever believed). */
static void read_boot(char boot[BOOT_BYTES])
{
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

    memset(boot, 0, BOOT_BYTES);
    if (f == NULL)
        return;
    if (fgets(boot, BOOT_BYTES, f) == NULL)
        boot[0] = '\0';
    (void)fclose(f);
}

struct started *started_open(const char *path, bool *believable, struct err *err)
{
    struct stat st;
    char boot[BOOT_BYTES];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        (void)err_sys(err, "%s", path);
        return NULL;
    }
    if (fstat(fd, &st) != 0 ||
        (st.st_size != (off_t)sizeof(struct started_file) &&
         (ftruncate(fd, 0) != 0 || ftruncate(fd, (off_t)sizeof(struct started_file)) != 0))) {
        (void)err_sys(err, "%s", path);
        (void)close(fd);
        return NULL;
    }
    void *map = mmap(NULL, sizeof(struct started_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        (void)err_sys(err, "mmap of %s", path);
    (void)close(fd);
    if (map == MAP_FAILED)
        return NULL;

    struct started *s = mem_zero(1, sizeof *s);
    s->file = map;
    read_boot(boot);
    *believable = memcmp(s->file->magic, magic, sizeof magic) == 0 && s->file->layout == LAYOUT &&
                  s->file->cells == STARTED_CELLS && s->file->senders == STARTED_SENDERS &&
                  boot[0] != '\0' && memcmp(s->file->boot, boot, BOOT_BYTES) == 0;
    if (!*believable) {
        memset(s->file, 0, sizeof *s->file);
        s->file->layout = LAYOUT;
        s->file->cells = STARTED_CELLS;
        s->file->senders = STARTED_SENDERS;
        memcpy(s->file->boot, boot, BOOT_BYTES);
        memcpy(s->file->magic, magic, sizeof magic); /* last: a torn start is not believed */
    }
    return s;
}

void started_close(struct started *s)
{
    if (s == NULL)
        return;
    (void)munmap(s->file, sizeof *s->file);
    free(s);
}

void started_begin(struct started *s, unsigned sender, uint32_t cell, uint64_t lease_id)
{
    struct started_cell *c = &s->file->cell[sender % STARTED_SENDERS][cell % STARTED_CELLS];

    atomic_store(&c->lease_id, 0);
    atomic_store(&c->mask, 0);
    atomic_store(&c->lease_id, lease_id);
}

void started_mark(struct started *s, unsigned sender, uint32_t cell, uint64_t mask)
{
    (void)atomic_fetch_or(&s->file->cell[sender % STARTED_SENDERS][cell % STARTED_CELLS].mask,
                          mask);
}

bool started_read(const struct started *s, unsigned sender, uint32_t cell, uint64_t lease_id,
                  uint64_t *mask)
{
    if (sender >= STARTED_SENDERS || cell >= STARTED_CELLS)
        return false;
    const struct started_cell *c = &s->file->cell[sender][cell];
    if (atomic_load(&c->lease_id) != lease_id)
        return false;
    *mask = atomic_load(&c->mask);
    return true;
}
