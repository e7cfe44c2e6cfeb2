#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "mail/handlebars.h"

/* Handlebars.js says the same of each, with a helper `equal`. */
static const char variables[] =
    "{\"name\":\"Ann & \\\"Bob\\\" <x>'`=\",\"html\":\"<b>hi</b>\",\"n\":7,\"zero\":0,"
    "\"half\":1.5,\"yes\":true,\"no\":false,\"nil\":null,\"empty\":\"\",\"list\":[\"a\","
    "\"b\",\"c\"],\"none\":[],\"obj\":{\"a\":{\"b\":\"deep\"},\"x y\":\"spaced\"},"
    "\"people\":[{\"name\":\"Ann\",\"tags\":[\"x\",\"y\"]},{\"name\":\"Bob\","
    "\"tags\":[]}],\"map\":{\"k1\":\"v1\",\"k2\":\"v2\"},\"matrix\":[[1,2],[3,"
    "4]]}";

static const struct {
    const char *text, *rendered;
} cases[] = {
    {"plain {text} } }} {", "plain {text} } }} {"},
    {"{{name}}", "Ann &amp; &quot;Bob&quot; &lt;x&gt;&#x27;&#x60;&#x3D;"},
    {"{{{name}}}", "Ann & \"Bob\" <x>'`="},
    {"{{& name}}", "Ann & \"Bob\" <x>'`="},
    {"{{{html}}} {{html}}", "<b>hi</b> &lt;b&gt;hi&lt;/b&gt;"},
    {"[{{missing}}|{{obj.missing.x}}|{{nil}}|{{empty}}]", "[|||]"},
    {"{{n}} {{zero}} {{half}} {{yes}} {{no}}", "7 0 1.5 true false"},
    {"{{list}} {{obj}} {{matrix}}", "a,b,c [object Object] 1,2,3,4"},
    {"{{#if yes}}A{{else}}B{{/if}}{{#if no}}A{{else}}B{{/if}}{{#if zero}}A{{else}}B{{/if}}{{#if "
     "empty}}A{{else}}B{{/if}}{{#if none}}A{{else}}B{{/if}}{{#if obj}}A{{else}}B{{/if}}{{#if "
     "missing}}A{{/if}}",
     "ABBBBA"},
    {"{{#unless no}}A{{else}}B{{/unless}}{{#unless name}}A{{else}}B{{/unless}}", "AB"},
    {"{{#each list}}{{@index}}:{{this}}{{#unless @last}}, {{/unless}}{{/each}}", "0:a, 1:b, 2:c"},
    {"{{#each none}}x{{else}}nobody{{/each}}{{#each missing}}x{{else}}none{{/each}}", "nobodynone"},
    {"{{#each people}}{{name}}({{#each tags}}{{../name}}/{{this}}{{@first}};{{else}}-{{/each}}) "
     "{{@root.n}} {{/each}}",
     "Ann(Ann/xtrue;Ann/yfalse;) 7 Bob(-) 7 "},
    {"{{#each map}}{{@key}}={{this}},{{/each}}", "k1=v1,k2=v2,"},
    {"{{#with obj.a}}{{b}}{{../n}}{{/with}}{{#with nil}}x{{else}}y{{/with}}", "deep7y"},
    {"{{#equal n 7}}seven{{else}}no{{/equal}}{{#equal name \"x\"}}a{{else}}b{{/equal}}{{#equal "
     "obj.a.b 'deep'}}d{{/equal}}{{#equal yes true}}t{{/equal}}{{#equal missing \"\"}}e{{/equal}}",
     "sevenbdte"},
    {"{{#if no}}A{{else if yes}}B{{else}}C{{/if}}{{#if no}}A{{else if no}}B{{else}}C{{/if}}{{#if "
     "no}}A{{else unless yes}}B{{else equal n 7}}D{{/if}}",
     "BCD"},
    {"{{#if yes}}A{{^}}B{{/if}}", "A"},
    {"{{! a comment }}x{{!-- with }} in it --}}y", "xy"},
    {"\\{{name}} \\\\{{n}} {{n}}", "{{name}} \\7 7"},
    {"a {{~n~}} b {{~#if yes~}} c {{~/if~}} d", "a7bcd"},
    {"one\n{{#if yes}}\n  two\n{{else}}\n  three\n{{/if}}\nfour\n", "one\n  two\nfour\n"},
    {"<ul>\n  {{#each list}}\n  <li>{{this}}</li>\n  {{/each}}\n</ul>",
     "<ul>\n  <li>a</li>\n  <li>b</li>\n  <li>c</li>\n</ul>"},
    {"{{#each list}}\r\n{{this}}\r\n{{/each}}\r\nend", "a\r\nb\r\nc\r\nend"},
    {"x {{! c }}\n  {{! c }}  \ny", "x \ny"},
    {"{{#if yes}} inline\n{{/if}}\nz", " inline\nz"},
    {"{{#each matrix}}{{#each this}}{{this}},{{/each}};{{/each}}", "1,2,;3,4,;"},
    {"{{#each matrix}}{{#each this}}{{@index}}{{/each}}{{@index}};{{/each}}", "010;011;"},
    {"{{ name }}{{\n n\n}}", "Ann &amp; &quot;Bob&quot; &lt;x&gt;&#x27;&#x60;&#x3D;7"},
    {"{{#each list}}{{#if @first}}first {{/if}}{{@key}}{{/each}}", "first 012"},
    {"{{#with people}}{{#each this}}{{name}}{{/each}}{{0.name}}{{/with}}", "AnnBobAnn"},
    {"{{#each people}}{{#with tags}}{{this}}{{@index}}{{else}}none{{@index}}{{/with}}{{/each}}",
     "x,y0none1"},
};

static bool render(const char *text, const char *json, enum handlebars_escape escape,
                   struct handlebars_budget *budget, struct buf *to)
{
    const struct handlebars_node *t;
    struct handlebars_error e = {0};
    struct arena a = {0};
    cJSON *tree = json_parse(slice_str(json));

    bool parsed = handlebars_parse(slice_str(text), &a, &t, &e);
    if (!parsed)
        print_error("%s: line %u: %s\n", text, e.line, e.words);
    assert_true(parsed);
    bool fine = handlebars_render(t, tree, escape, budget, to);
    json_free(tree);
    arena_fini(&a);
    return fine;
}

static void expect(const char *text, const char *json, enum handlebars_escape escape,
                   const char *rendered)
{
    struct handlebars_budget budget = {.steps = 1000, .bytes = 1000};
    struct buf to = {0};

    assert_true(render(text, json, escape, &budget, &to));
    if (!slice_eq(buf_slice(&to), slice_str(rendered)))
        print_error("%s\n", text);
    assert_string_equal(buf_cstr(&to), rendered);
    assert_int_equal(budget.bytes, 1000 - to.len);
    buf_fini(&to);
}

static void it_renders_as_handlebars_does(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect(cases[i].text, variables, HANDLEBARS_HTML, cases[i].rendered);
}

static void without_variables_and_without_escaping(void **unused)
{
    (void)unused;
    expect("", "{}", HANDLEBARS_HTML, "");
    expect("a{{b}}{{#if c}}d{{else}}e{{/if}}", "", HANDLEBARS_HTML, "ae");
    expect("{{a}} {{{a}}}", "{\"a\":\"<&>\"}", HANDLEBARS_PLAIN, "<&> <&>");
    expect("{{a}}", "{\"a\":\"%recipient.name%\"}", HANDLEBARS_HTML, "%recipient.name%");
    expect("{{a.b}} {{a/b}} {{a.[x y]}} {{l.1}} {{l.[0]}} {{this.n}} {{./n}} {{l.2}}",
           "{\"a\":{\"b\":\"c\",\"x y\":\"z\"},\"l\":[1,2],\"n\":7}", HANDLEBARS_HTML,
           "c c z 2 1 7 7 ");
    expect("{{a.b}}{{../a}}{{@index}}{{@key}}", "[1]", HANDLEBARS_HTML, "");
}

static void refuse(const char *text, unsigned line, const char *words)
{
    const struct handlebars_node *t;
    struct handlebars_error e = {0};
    struct arena a = {0};

    assert_false(handlebars_parse(slice_str(text), &a, &t, &e));
    assert_string_equal(e.words, words);
    assert_int_equal(e.line, line);
    arena_fini(&a);
}

static void what_is_wrong_is_said_with_its_line(void **unused)
{
    (void)unused;
    refuse("{{", 1, "a tag is not closed");
    refuse("a\nb {{c", 2, "a tag is not closed");
    refuse("a\nb {{c}", 2, "a tag is not closed, or holds what is no name");
    refuse("\n\n{{}}", 3, "a tag holds one name");
    refuse("{{\"a\"}}", 1, "a tag holds one name");
    refuse("{{#if a}}\n\nb", 1, "a block is not closed");
    refuse("{{#if a}}\n{{/each}}", 2, "a block is closed by another one's name");
    refuse("a\n{{/if}}", 2, "no block is open here");
    refuse("a\n{{else}}", 2, "no block is open here");
    refuse("{{#if a}}{{else}}\n b {{else}}{{/if}}", 2, "a second {{else}}");
    refuse("{{#if}}{{/if}}", 1, "a block has too few or too many arguments");
    refuse("{{#equal a}}{{/equal}}", 1, "a block has too few or too many arguments");
    refuse("{{#if a b c}}{{/if}}", 1, "a tag has too many arguments");
    refuse("{{#if a}}{{/if a}}", 1, "a tag has too many arguments");
    refuse("{{#list}}{{/list}}", 1, "blocks are #if, #unless, #each, #with and #equal");
    refuse("{{upper name}}", 1, "helpers are #if, #unless, #each, #with and #equal");
    refuse("x\n{{> footer}}", 2, "partials are not supported");
    refuse("{{#> layout}}{{/layout}}", 1, "partials are not supported");
    refuse("{{#if (eq a b)}}{{/if}}", 1, "subexpressions are not supported");
    refuse("{{#each a as |b|}}{{/each}}", 1, "block parameters are not supported");
    refuse("{{#if a b=1}}{{/if}}", 1, "named arguments are not supported");
    refuse("{{{{raw}}}}{{{{/raw}}}}", 1, "raw blocks are not supported");
    refuse("{{#* inline \"a\"}}{{/inline}}", 1, "decorators are not supported");
    refuse("{{{a}}", 1, "a tag is not closed, or holds what is no name");
    refuse("{{! a", 1, "a comment is not closed");
    refuse("{{!-- a }}", 1, "a comment is not closed");
    refuse("{{#equal a \"b}}", 1, "a quotation mark is not closed");
    refuse("{{a..b}}", 1, "a path has an empty part");
    refuse("{{a.}}", 1, "a path has an empty part");
    refuse("{{..a}}", 1, "'..' is followed by '/'");
    refuse("{{@level}}", 1, "only @root, @index, @key, @first and @last are known");
    refuse("{{a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q}}", 1, "a path has too many parts");
}

static void nesting_is_bounded(void **unused)
{
    const struct handlebars_node *t;
    struct handlebars_error e = {0};
    struct arena a = {0};
    struct buf text = {0}, to = {0};
    struct handlebars_budget budget = {.steps = 1000, .bytes = 1000};

    (void)unused;
    for (int depth = 1; depth <= HANDLEBARS_DEPTH_MAX + 1; depth++) {
        buf_reset(&text);
        for (int i = 0; i < depth; i++)
            buf_add_str(&text, "{{#if a}}");
        buf_add_byte(&text, 'x');
        for (int i = 0; i < depth; i++)
            buf_add_str(&text, "{{/if}}");
        assert_int_equal(handlebars_parse(buf_slice(&text), &a, &t, &e),
                         depth <= HANDLEBARS_DEPTH_MAX);
        if (depth == HANDLEBARS_DEPTH_MAX) {
            cJSON *tree = json_parse(SLICE("{\"a\":1}"));
            assert_true(handlebars_render(t, tree, HANDLEBARS_HTML, &budget, &to));
            assert_string_equal(buf_cstr(&to), "x");
            json_free(tree);
        }
    }
    buf_fini(&text);
    buf_fini(&to);
    arena_fini(&a);
}

static void a_budget_ends_it(void **unused)
{
    static const char loops[] = "{{#each a}}{{#each ../a}}{{#each ../../a}}{{#each ../../../a}}x"
                                "{{/each}}{{/each}}{{/each}}{{/each}}";
    static const char numbers[] = "{\"a\":[1,2,3,4,5,6,7,8,9,10]}";
    struct buf to = {0};

    (void)unused;
    struct handlebars_budget enough = {.steps = 50000, .bytes = 10000};
    assert_true(render(loops, numbers, HANDLEBARS_HTML, &enough, &to));
    assert_int_equal(to.len, 10000);
    struct handlebars_budget few_steps = {.steps = 5000, .bytes = 10000};
    assert_false(render(loops, numbers, HANDLEBARS_HTML, &few_steps, &to));
    struct handlebars_budget few_bytes = {.steps = 50000, .bytes = 9999};
    buf_reset(&to);
    assert_false(render(loops, numbers, HANDLEBARS_HTML, &few_bytes, &to));
    assert_true(to.len <= 9999);
    buf_fini(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_renders_as_handlebars_does),
        cmocka_unit_test(without_variables_and_without_escaping),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(a_budget_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
