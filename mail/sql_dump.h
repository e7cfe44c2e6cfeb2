/*
 * mail/sql_dump.h - the rows of a MySQL dump, one after another.
 *
 * SHAPE   SQL text as mysqldump and mariadb-dump write it: CREATE TABLE names the columns, INSERT
 *         and REPLACE bring the rows, one or many a statement, with or without a list of columns;
 *         texts in quotes with backslashes, hexadecimal literals, comments, DELIMITER. Everything
 *         else is passed over whole.
 * MEMORY  All borrows from the text, but what sql_value_text() had to undo, which lives in the
 *         arena it is given. Columns live in the dump's own arena; sql_dump_fini() frees.
 * UNITS   Lines count from 1.
 * ERRORS  SQL_BROKEN, with line and why, for a text that ends within a statement, a row of another
 *         length than its columns, a row whose columns nobody has named. There is no going on.
 * SOURCE  MySQL 8.0 reference manual, "String Literals", "Hexadecimal Literals", "Comments",
 *         "mysqldump"; MariaDB's first line "M!999999" is a comment like others.
 */
#ifndef MAIL_SQL_DUMP_H
#define MAIL_SQL_DUMP_H

#include "base/arena.h"

enum { SQL_COLUMNS_MAX = 64 };

enum sql_result { SQL_ROW, SQL_END, SQL_BROKEN };
enum sql_kind { SQL_NULL, SQL_WORD, SQL_TEXT, SQL_HEX };

/* A value as it stands in the dump: texts without their quotes, hexadecimal ones without 0x. */
struct sql_value {
    enum sql_kind kind;
    uint8_t escaped_in; /* the quote around what holds escapes to be undone; 0 = none */
    struct slice raw;
};

struct sql_table {
    struct slice name; /* without quotes and without the database's name */
    struct slice columns[SQL_COLUMNS_MAX];
    size_t count;
    struct sql_table *next;
};

struct sql_dump {
    struct slice rest;
    size_t line; /* where rest begins */
    struct slice delimiter;
    struct arena arena;
    struct sql_table *tables;
    /* within an INSERT: */
    bool in_rows;
    struct sql_table row_table;
    /* the row read last, or what is wrong: */
    struct sql_value values[SQL_COLUMNS_MAX];
    size_t value_count;
    size_t row_line;
    const char *why;
};

struct sql_dump sql_dump_over(struct slice text);
void sql_dump_fini(struct sql_dump *d);

/* SQL_ROW: d->row_table, d->values and d->row_line are its. SQL_BROKEN: d->row_line and d->why. */
enum sql_result sql_dump_next(struct sql_dump *d);

/* The value of that column, any case; NULL when the row's table has none. */
const struct sql_value *sql_dump_value(const struct sql_dump *d, const char *column);
/* Its text: empty for NULL; hexadecimal digits and escapes undone into the arena. */
struct slice sql_value_text(const struct sql_value *v, struct arena *a);

#endif
