#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "mail/sql_dump.h"

#define TABLE                                                                                      \
    "CREATE TABLE `t` (\n  `id` int NOT NULL DEFAULT (1+2),\n  `text` text COMMENT 'a, (b)',\n"    \
    "  PRIMARY KEY (`id`),\n  KEY `k` (`text`(10),`id`)\n) ENGINE=InnoDB;\n"

/* Each row as "line table column=value|…\n", then how it ended. */
static void expect(struct slice text, const char *rows, enum sql_result end)
{
    struct sql_dump d = sql_dump_over(text);
    struct arena a = {0};
    struct buf seen = {0};
    enum sql_result got;

    while ((got = sql_dump_next(&d)) == SQL_ROW) {
        buf_printf(&seen, "%zu %.*s ", d.row_line, SLICE_ARGS(d.row_table.name));
        for (size_t i = 0; i < d.value_count; i++) {
            struct slice value = sql_value_text(&d.values[i], &a);
            buf_printf(&seen, "%.*s=", SLICE_ARGS(d.row_table.columns[i]));
            buf_add_slice(&seen, d.values[i].kind == SQL_NULL ? SLICE("NULL") : value);
            buf_add_byte(&seen, '|');
        }
        buf_add_byte(&seen, '\n');
    }
    assert_int_equal(got, end);
    if (got == SQL_BROKEN)
        buf_printf(&seen, "%zu: %s", d.row_line, d.why);
    assert_string_equal(buf_cstr(&seen), rows);
    buf_fini(&seen);
    arena_fini(&a);
    sql_dump_fini(&d);
}

static void rows_have_the_columns_of_their_table(void **unused)
{
    (void)unused;
    expect(SLICE(""), "", SQL_END);
    expect(SLICE(TABLE), "", SQL_END);
    expect(SLICE(TABLE "INSERT INTO `t` VALUES (1,'a'),(2,NULL);\n"),
           "7 t id=1|text=a|\n7 t id=2|text=NULL|\n", SQL_END);
    expect(SLICE(TABLE
                 "INSERT INTO `t` VALUES\n(1,'a'),\n(-2.5e3,'b');\nREPLACE INTO t VALUES (3,'c');"),
           "8 t id=1|text=a|\n9 t id=-2.5e3|text=b|\n10 t id=3|text=c|\n", SQL_END);
    expect(
        SLICE("INSERT IGNORE INTO `db`.`u` (`b`, `a`) VALUES (1,2) ON DUPLICATE KEY UPDATE a=')';"),
        "1 u b=1|a=2|\n", SQL_END);
    expect(SLICE("CREATE TABLE t (id int, CONSTRAINT c CHECK (id > 0), `key` int, UNIQUE KEY (id));"
                 "INSERT t VALUES (1,2);"),
           "1 t id=1|key=2|\n", SQL_END);
}

static void texts_are_undone(void **unused)
{
    (void)unused;
    expect(
        SLICE("INSERT INTO t (v) VALUES "
              "('it''s'),('a\\'b'),('\\n\\t\\\\\\\"'),(\"x\"\"y''\"),('\"\"\\\\'),"
              "('5\\%\\_\\x');"),
        "1 t v=it's|\n1 t v=a'b|\n1 t v=\n\t\\\"|\n1 t v=x\"y''|\n1 t v=\"\"\\|\n1 t v=5\\%\\_x|\n",
        SQL_END);
    expect(SLICE("INSERT INTO t (v) VALUES (0x4142),(_binary "
                 "'x'),(X'6a'),(_utf8mb4'\xc3\xa9'),(x),(0x),(true);"),
           "1 t v=AB|\n1 t v=x|\n1 t v=j|\n1 t v=\xc3\xa9|\n1 t v=x|\n1 t v=0x|\n1 t v=true|\n",
           SQL_END);
    expect(SLICE("INSERT INTO t (v) VALUES ('two\nlines;)'),\n('c');"),
           "1 t v=two\nlines;)|\n3 t v=c|\n", SQL_END);
}

static void everything_else_is_passed_over(void **unused)
{
    (void)unused;
    expect(
        SLICE(
            "\xef\xbb\xbf/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n#; x\n--\n"
            "/*!40101 SET NAMES utf8mb4 */;\nLOCK TABLES `t` WRITE;\nDROP TABLE IF EXISTS `a;b`;\n"
            "SET x = 'INSERT INTO t VALUES (1);';\n/*!50003 CREATE TRIGGER INSERT */;;\n" TABLE
            "DELIMITER ;;\nCREATE TRIGGER x BEGIN INSERT INTO t VALUES (9,9); END ;;\nDELIMITER ;\n"
            "INSERT INTO t SELECT 1, 2;\nCREATE TABLE IF NOT EXISTS u LIKE t;\n"
            "INSERT /* not yet */ INTO t VALUES (1 /* one */, 'x' -- last\n);UNLOCK TABLES;\n"
            "-- Dump completed on 2026-01-01"),
        "21 t id=1|text=x|\n", SQL_END);
}

static void what_is_wrong_is_said_with_its_line(void **unused)
{
    (void)unused;
    expect(SLICE("INSERT INTO t (v) VALUES (1),\n('cut"),
           "1 t v=1|\n2: a quoted text does not end: the dump is cut short", SQL_BROKEN);
    expect(SLICE("INSERT INTO t (v) VALUES (1"), "1: a row does not end: the dump is cut short",
           SQL_BROKEN);
    expect(SLICE("INSERT INTO t (v) VALUES (1)"),
           "1 t v=1|\n1: a statement does not end: the dump is cut short", SQL_BROKEN);
    expect(SLICE("INSERT INTO t (v) VALUES (1),"),
           "1 t v=1|\n1: rows are missing: the dump is cut short", SQL_BROKEN);
    expect(
        SLICE("\nINSERT INTO t VALUES (1);"),
        "2: nothing names the columns of this row: make the dump without --no-create-info, or with "
        "--complete-insert",
        SQL_BROKEN);
    expect(SLICE(TABLE "INSERT INTO t VALUES (1);"),
           "7: a row has another number of values than its table has columns", SQL_BROKEN);
    expect(SLICE("INSERT INTO t (v) VALUES (f(1));"), "1: a row is not what mysqldump writes",
           SQL_BROKEN);
    expect(SLICE("INSERT INTO t (v) VALUES (,);"), "1: a value is missing here", SQL_BROKEN);
    expect(SLICE("CREATE TABLE `t` (`id` int"),
           "1: a table's definition does not end: the dump is cut short", SQL_BROKEN);
}

static void a_value_is_found_by_its_column(void **unused)
{
    struct sql_dump d = sql_dump_over(SLICE("INSERT INTO t (toEmail,n) VALUES ('a@b',NULL);"));
    struct arena a = {0};

    (void)unused;
    assert_int_equal(sql_dump_next(&d), SQL_ROW);
    assert_true(slice_eq(sql_value_text(sql_dump_value(&d, "TOEMAIL"), &a), SLICE("a@b")));
    assert_int_equal(sql_value_text(sql_dump_value(&d, "n"), &a).len, 0);
    assert_null(sql_dump_value(&d, "to"));
    assert_int_equal(sql_value_text(NULL, &a).len, 0);
    sql_dump_fini(&d);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_the_columns_of_their_table),
        cmocka_unit_test(texts_are_undone),
        cmocka_unit_test(everything_else_is_passed_over),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
        cmocka_unit_test(a_value_is_found_by_its_column),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
