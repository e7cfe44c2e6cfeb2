/*
 * master/title.h - what ps shows of a process: "postern: httpd 0" instead of the command line that all
 * have from the master.
 *
 * ENDS    title_init(): main(), before anything keeps a pointer into the environment. title_set(): a
 *         child, soon after fork(); nobody may look at argv after it. The master keeps its own command
 *         line, and all keep the name "postern" (comm): who looks for a program by its name finds it.
 * MEMORY  The kernel shows what lies where it put arguments and environment: there the title is written.
 *         So the environment moves into memory of ours first, and what of it lay there (secrets, too) is
 *         gone from a child that has a title.
 * ERRORS  None: where the place is not as expected the process keeps its command line. What does not fit
 *         is cut.
 * SOURCE  proc(5), /proc/pid/cmdline: where its last byte is not NUL, it goes on into the environment.
 */
#ifndef MASTER_TITLE_H
#define MASTER_TITLE_H

void title_init(int argc, char **argv);
void title_set(const char *name);

#endif
