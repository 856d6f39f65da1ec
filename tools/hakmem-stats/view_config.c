// SPDX-License-Identifier: MIT
#include "views.h"

#include "options.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

static void print_option(const char *name, const char *value, const char *from, void *arg)
{
    (void)arg;
    bool set = strcmp(from, "default") != 0;
    printf("  %s%-24s %-24s %s%s\n", set ? bold() : "", name, value, from, set ? plain() : "");
}

static void json_option(const char *name, const char *value, const char *from, void *arg)
{
    (void)arg;
    json_open(name, '{');
    json_text("value", value);
    json_text("source", from);
    json_close('}');
}

void view_config(struct target *target)
{
    if (output.json) {
        json_open(NULL, '{');
        json_title(target);
        json_open("options", '{');
        options_foreach(&target->capture, json_option, NULL);
        json_close('}');
        json_close('}');
        json_end();
        return;
    }
    print_title(target);
    printf("\n  %s%-24s %-24s %s%s\n", bold(), "option", "value", "from", plain());
    if (!options_foreach(&target->capture, print_option, NULL))
        print_not_recorded("options");
}
