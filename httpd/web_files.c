/*
 * The assembler puts the files in as they are; the Makefile names them as this object's sources.
 */
#include "httpd/web_files.h"

#define BUILD_IN(symbol, path)                                                                     \
    __asm__(".section .rodata\n"                                                                   \
            ".global web_" symbol "\n"                                                             \
            ".global web_" symbol "_end\n"                                                         \
            "web_" symbol ":\n"                                                                    \
            ".incbin \"" path "\"\n"                                                               \
            "web_" symbol "_end:\n"                                                                \
            ".byte 0\n"                                                                            \
            ".previous\n")

BUILD_IN("index", "web/index.html");
BUILD_IN("style", "web/style.css");
BUILD_IN("app", "web/app.js");
BUILD_IN("ui", "web/ui.js");
BUILD_IN("charts", "web/charts.js");
BUILD_IN("pages", "web/pages.js");
BUILD_IN("newsletters", "web/newsletters.js");
BUILD_IN("icon", "web/icon.svg");

#define DECLARE(symbol) extern const uint8_t web_##symbol[], web_##symbol##_end[];
DECLARE(index)
DECLARE(style)
DECLARE(app)
DECLARE(ui)
DECLARE(charts)
DECLARE(pages)
DECLARE(newsletters)
DECLARE(icon)

#define SCRIPT "text/javascript; charset=utf-8"

static const struct web_file files[] = {
    {"", "text/html; charset=utf-8", web_index, web_index_end},
    {"style.css", "text/css; charset=utf-8", web_style, web_style_end},
    {"app.js", SCRIPT, web_app, web_app_end},
    {"ui.js", SCRIPT, web_ui, web_ui_end},
    {"charts.js", SCRIPT, web_charts, web_charts_end},
    {"pages.js", SCRIPT, web_pages, web_pages_end},
    {"newsletters.js", SCRIPT, web_newsletters, web_newsletters_end},
    {"icon.svg", "image/svg+xml", web_icon, web_icon_end},
};

const struct web_file *web_file_find(struct slice name)
{
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (slice_eq(name, slice_str(files[i].name)))
            return &files[i];
    return NULL;
}
