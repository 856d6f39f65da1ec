// SPDX-License-Identifier: MIT
//
// What looks like misuse and is none, or is only counted: the program lives and stderr stays empty.
#include "death.h"

#include <locale.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

// A live block that holds, word for word, what a dead one held: a mark in the memory alone proves
// nothing.
static void looks_dead(const struct death *self, uint64_t seed)
{
    static unsigned char image[65536];

    (void)seed;
    for (unsigned round = 0; round < 2000; round++) {
        void *a = take(self->size), *b = take(self->size), *c = take(self->size);
        if (self->argument != 0)
            in_thread(free_it, a);
        else
            free_it(a);
        memcpy(image, hide(a), self->size);
        memcpy(b, image, self->size);
        memcpy(c, image, self->size);
        b = hide(realloc(b, self->size + 1));
        free_it(b);
        free_it(c);
        if (self->argument != 0 && round == 100)
            return;
    }
}

// The next owner of the same address does not write at all: what the block holds is what it held
// when it was dead.
static void never_written(const struct death *self, uint64_t seed)
{
    (void)seed;
    for (unsigned round = 0; round < 2000; round++) {
        void *p = hide(malloc(self->size));
        void *q = hide(malloc(self->size));
        free_it(p);
        free_it(q);
    }
}

static void sized_mismatch(const struct death *self, uint64_t seed)
{
    void (*free_sized)(void *, size_t) = function_named("free_sized");

    (void)seed;
    free_sized(take(self->size), self->argument);
}

static void delete_mismatch(const struct death *self, uint64_t seed)
{
    void *(*new)(size_t) = function_named("_Znwm");
    void (*delete)(void *, size_t) = function_named("_ZdlPvm");

    (void)seed;
    delete (new (self->size), self->argument);
}

static void aligned_mismatch(const struct death *self, uint64_t seed)
{
    void (*free_aligned_sized)(void *, size_t, size_t) = function_named("free_aligned_sized");

    (void)seed;
    free_aligned_sized(hide(aligned_alloc(64, self->size)), self->argument, self->size);
}

static void nothing_freed(const struct death *self, uint64_t seed)
{
    (void)self, (void)seed;
    free_it(NULL);
    if (malloc_usable_size(hide(NULL)) != 0)
        abort();
}

static void libc_buffers(const struct death *self, uint64_t seed)
{
    char *line = NULL, *text = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/status", "r");

    (void)self, (void)seed;
    setlocale(LC_ALL, "C.UTF-8");
    while (getline(&line, &room, file) > 0)
        continue;
    fclose(file);
    if (asprintf(&text, "%s and %d", "text", 7) < 0)
        abort();
    free_it(line);
    free_it(text);
    free_it(strndup("abcdef", 3));
    free_it(realpath("/proc/self/../self", NULL));
}

static void freed_by_another(const struct death *self, uint64_t seed)
{
    for (unsigned i = 0; i < 50; i++)
        in_thread(free_it, take(random_next(&seed) % self->size));
}

static const struct death cases[] = {
    {"harmless: looks dead, 16 B", looks_dead, NOTHING, 16, 0, 0},
    {"harmless: looks dead, 64 B", looks_dead, NOTHING, 64, 0, 0},
    {"harmless: looks dead, 1 KiB", looks_dead, NOTHING, KIB, 0, 0},
    {"harmless: looks dead, 8 KiB", looks_dead, NOTHING, 8 * KIB, 0, 0},
    {"harmless: looks dead, freed in a thread, 16 B", looks_dead, NOTHING, 16, 1, 0},
    {"harmless: looks dead, freed in a thread, 1 KiB", looks_dead, NOTHING, KIB, 1, 0},
    {"harmless: never written, 16 B", never_written, NOTHING, 16, 0, 0},
    {"harmless: never written, 1 KiB", never_written, NOTHING, KIB, 0, 0},
    {"harmless: never written, 64 KiB", never_written, NOTHING, 64 * KIB, 0, 0},
    {"harmless: never written, 1 MiB", never_written, NOTHING, MIB, 0, 0},
    {"harmless: free_sized says too much", sized_mismatch, NOTHING, 100, 4000, 0},
    {"harmless: free_sized says too little", sized_mismatch, NOTHING, 4000, 1, 0},
    {"harmless: free_sized says 0", sized_mismatch, NOTHING, 100, 0, 0},
    {"harmless: free_sized of 1 MiB says 8", sized_mismatch, NOTHING, MIB, 8, 0},
    {"harmless: free_sized of 8 says 64 MiB", sized_mismatch, NOTHING, 8, 64 << 20, 0},
    {"harmless: sized delete says another class", delete_mismatch, NOTHING, 100, 1000, 0},
    {"harmless: free_aligned_sized says another alignment", aligned_mismatch, NOTHING, 100, 256, 0},
    {"harmless: NULL", nothing_freed, NOTHING, 0, 0, 0},
    {"harmless: libc's buffers", libc_buffers, NOTHING, 0, 0, 0},
    {"harmless: freed by another thread", freed_by_another, NOTHING, 300000, 0, 2},
};

const struct suite harmless_suite = {cases, COUNT(cases)};
