#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "mail/html_text.h"

static const struct {
    const char *html, *text;
} cases[] = {
    {"", ""},
    {"  \n ", ""},
    {"plain words", "plain words\n"},
    {"<p>One</p><p>two\n  three</p>", "One\n\ntwo three\n"},
    {"<html><head><title>T</title><style>a{b:c}</style></head><body>Hi</body></html>", "Hi\n"},
    {"<head><meta charset=utf-8><title>T</title><body>Hi", "Hi\n"}, /* no </head> is needed */
    {"a<script>if (a < b && '</' > c) {}</script>b", "ab\n"},
    {"<!DOCTYPE html><!-- a > b --><?xml x?>c", "c\n"},
    {"a<br>b<br/>c<br><br>d<br><br><br><br>e", "a\nb\nc\n\nd\n\ne\n"},
    {"<div>a</div><div>b</div><div><div>c</div></div>", "a\nb\nc\n"},
    {"<ul><li>a</li><li> b </li></ul>c", "* a\n* b\n\nc\n"},
    {"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"},
    {"see <a href=\"https://example.com/?a=1&amp;b=2\">this page</a>.",
     "see this page (https://example.com/?a=1&b=2).\n"},
    {"<a href='https://example.com/'>https://example.com/</a>", "https://example.com/\n"},
    {"<a href='mailto:a@b.example'>a@b.example</a> <a href='#x'>top</a> <a name=y>z</a>",
     "a@b.example top z\n"},
    {"<a href=\"https://example.com/\"><img src=x></a>end", "end\n"},
    {"<a href=\"u\">open", "open (u)\n"},
    {"a &amp; b &lt;c&gt; &quot;d&quot; &#39;e&#x27; &euro;&#8364;&#x1F600; &auml; f&nbsp;g",
     "a & b <c> \"d\" 'e' €€😀 ä f g\n"},
    {"&unknown; & &; &#; &#xZZ; &#0; &#xD800; &#99999999999;", "&unknown; & &; &#; &#xZZ; � � �\n"},
    {"1 < 2 > 0 <3 </", "1 < 2 > 0 <3 </\n"},
    {"<b title=\"a > b\">c</b>", "c\n"},
    {"<pre>a\n  b\n\nc</pre>d", "a\n  b\n\nc\n\nd\n"},
    {"<h1>T</h1>a<p", "T\n\na\n"},
    {"<P>A</P><BR><DIV>b</DIV>", "A\n\nb\n"},
    {"%recipient.name% <i>x</i>!", "%recipient.name% x!\n"},
};

static void it_says_what_a_page_says(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf to = {0};
        buf_add_str(&to, "before\n");
        html_to_text(&to, slice_str(cases[i].html));
        if (!slice_eq(slice_from(buf_slice(&to), 7), slice_str(cases[i].text)))
            print_error("%s\n", cases[i].html);
        assert_string_equal(buf_cstr(&to) + 7, cases[i].text);
        buf_fini(&to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_says_what_a_page_says)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
