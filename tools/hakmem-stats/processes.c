// SPDX-License-Identifier: MIT
#include "processes.h"

#include <dirent.h>
#include <string.h>

unsigned processes_foreach(void (*callback)(struct target *target, void *arg), void *arg)
{
    DIR *directory = opendir("/proc");
    const struct dirent *entry;
    unsigned nr_denied = 0;

    while (directory && (entry = readdir(directory)) != NULL) {
        struct target target;
        struct problem problem;
        if (entry->d_name[strspn(entry->d_name, "0123456789")] != '\0')
            continue;
        if (target_open(&target, entry->d_name, false, &problem) == 0) {
            callback(&target, arg);
            target_close(&target);
        } else {
            nr_denied += target.memory_denied;
        }
    }
    if (directory)
        closedir(directory);
    return nr_denied;
}
