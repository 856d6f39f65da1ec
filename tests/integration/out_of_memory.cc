// SPDX-License-Identifier: MIT
//
// new_handler and bad_alloc, as a program (static or not) and as a plug-in of a C program; built by
// links.sh.
#include <cstdint>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

static int nr_calls;

static void handler()
{
    if (++nr_calls == 3)
        std::set_new_handler(nullptr);
}

extern "C" int run()
{
    volatile std::size_t huge = SIZE_MAX / 2 + 100;
    int nr_caught = 0;

    for (int i = 0; i < 3; i++) {
        nr_calls = 0;
        std::set_new_handler(handler);
        try {
            void *volatile p = ::operator new(huge);
            (void)p;
        } catch (const std::bad_alloc &) {
            nr_caught += nr_calls == 3;
        }
    }
    try {
        std::vector<std::string> words(1000, std::string(100, 'x'));
        words.reserve(huge / sizeof(std::string) / 2);
    } catch (const std::bad_alloc &) {
        nr_caught++;
    }
    void *volatile none = ::operator new(huge, std::nothrow);
    if (nr_caught != 4 || none != nullptr) {
        std::printf("expected 4 exceptions, actual %d\n", nr_caught);
        return 1;
    }
    return 0;
}

#ifndef PLUGIN
int main()
{
    return run();
}
#endif
