// SPDX-License-Identifier: MIT
/*
 * What the tests of names look at: call sites in C++, in templates with long names, inlined and not, and one whose
 * symbol is nobody's friend (HOSTILE_NAME: short to write, longer than memory to read). Says "ready" when it holds what it should.
 * stats_names.sh finds lines by the marks in their comments.
 */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

#define INLINED  __attribute__((always_inline)) static inline
#define OUTLINED __attribute__((noinline))

static void *volatile held[100];
static unsigned nr_held;

INLINED void hold(void *p)
{
    held[nr_held++] = p;
}

namespace storage {
struct Table {
    OUTLINED void grow(int n) const &;
};

OUTLINED void Table::grow(int n) const &
{
    for (volatile int i = 0; i < n; i = i + 1)
        hold(malloc(200000)); // line: grow
}

template <class Key, class Value> struct Pool {
    OUTLINED static void fill();
};

template <class Key, class Value> OUTLINED void Pool<Key, Value>::fill()
{
    for (volatile int i = 0; i < 7; i = i + 1)
        hold(malloc(210000));
}
} // namespace storage

/* In a user's own inlined functions, and in those of the library's headers. */
INLINED void *make(size_t n)
{
    return malloc(n); // line: innermost
}

INLINED void *make_two(size_t n)
{
    hold(make(n)); // line: middle
    return NULL;
}

OUTLINED void outermost()
{
    for (volatile int i = 0; i < 5; i = i + 1)
        make_two(220000); // line: outermost
}

/* As a function that is inlined into itself: its name behind its name would say nothing. */
INLINED void twice(int n)
{
    hold(malloc(n));
}

OUTLINED void twice(long n)
{
    for (volatile int i = 0; i < 4; i = i + 1)
        twice((int)n); // line: twice
}

OUTLINED void load_table(std::vector<char> *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rows[i].reserve(230000); // line: load_table
}

#ifdef HOSTILE_NAME
extern "C" OUTLINED void hostile() __asm__(HOSTILE_NAME);
extern "C" OUTLINED void hostile()
{
    hold(malloc(240000));
}
#endif

using Deep = std::map<int, std::map<long, std::vector<std::pair<short, char>>>>; /* some 400 bytes with its defaults */

int main()
{
    static std::vector<char> rows[3];

    storage::Table().grow(9);
    storage::Pool<Deep, int>::fill();
    outermost();
    twice(225000L);
    load_table(rows, 3);
#ifdef HOSTILE_NAME
    hostile();
#endif
    free(malloc(260000)); /* the library notes a run of calls when another site calls */
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
