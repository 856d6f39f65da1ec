// SPDX-License-Identifier: MIT
//
// load_plugin PLUGIN [deepbind]: a C program that loads a C++ plug-in, so that libstdc++ is not
// visible to anyone else. Built by links.sh.
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | (argc > 2 ? RTLD_DEEPBIND : 0));

    if (plugin == NULL) {
        printf("%s\n", dlerror());
        return 1;
    }
    int (*run)(void) = (int (*)(void))dlsym(plugin, "run");
    if (run == NULL) {
        printf("no run\n");
        return 1;
    }
    int result = run();
    dlclose(plugin);
    return result;
}
