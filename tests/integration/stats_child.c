// SPDX-License-Identifier: MIT
//
// What stats.py looks at: a program that does as its argument says, tells that it is ready by a line
// on stdout, and rests until it reads a byte. Linked statically too.
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef LINKED
#    define FUNCTION(pointer, name) (void)(*(void **)&(pointer) = (void *)(uintptr_t)(name))
#else
#    define FUNCTION(pointer, name) (void)(*(void **)&(pointer) = dlsym(RTLD_DEFAULT, #name))
#endif

#define NR_BLOCKS 3000
static void *block[4][NR_BLOCKS];
static pthread_barrier_t rest, go;

static void fill(size_t row)
{
    for (size_t i = 0; i < NR_BLOCKS; i++) {
        size_t size = i % 500 == 0 ? 3000000 : i % 50 == 0 ? 100000 : 10 + i * 7 % 2000;
        block[row][i] = malloc(size);
        if (block[row][i])
            memset(block[row][i], 1, size < 4096 ? size : 4096);
    }
}

static void *work(void *row_)
{
    size_t row = (size_t)row_;

    fill(row);
    pthread_barrier_wait(&rest);
    for (size_t i = 0; i < NR_BLOCKS; i += 2) // of another thread
        free(block[(row + 1) % 4][i]);
    pthread_barrier_wait(&rest);
    pthread_barrier_wait(&go);
    return NULL;
}

// "ready", pid, and the members of hak_stats_t, at rest.
static void tell(void)
{
    int (*get)(hak_stats_t *, size_t) = NULL;
    static hak_stats_t s;
    char line[512];

    FUNCTION(get, hak_stats_get);
    if (get)
        get(&s, sizeof s);
    // Not through stdio, which might allocate.
    int n = snprintf(line, sizeof line, "ready %d %ju %ju %ju %ju %ju %ju %ju %ju\n", getpid(), (uintmax_t)s.mapped,
            (uintmax_t)s.live, (uintmax_t)s.cached, (uintmax_t)s.slab_free, (uintmax_t)s.dirty,
            (uintmax_t)s.purged, (uintmax_t)s.metadata, (uintmax_t)s.live_blocks);
    if (write(1, line, (size_t)n) != n)
        abort();
}

static void wait_for_byte(void)
{
    char byte;

    while (read(0, &byte, 1) < 0)
        ;
}

static int threads(void)
{
    pthread_t thread[4];
    void *(*labelled)(size_t) = NULL;

    FUNCTION(labelled, hak_alloc_cs);
    for (size_t i = 0; labelled && i < 25; i++)
        block[0][i] = labelled(100 + i); // overwritten: they stay
    pthread_barrier_init(&rest, NULL, 5);
    pthread_barrier_init(&go, NULL, 5);
    for (size_t i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, work, (void *)i);
    pthread_barrier_wait(&rest);
    pthread_barrier_wait(&rest);
    usleep(1000); // they are in their last wait
    tell();
    wait_for_byte();
    pthread_barrier_wait(&go);
    for (size_t i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    return 0;
}

static void out(void *arg, const char *text, size_t bytes)
{
    (void)arg;
    if (write(1, text, bytes) < 0)
        abort();
}

static int json(void)
{
    void (*call)(void (*)(void *, const char *, size_t), void *) = NULL;

    fill(0);
    FUNCTION(call, hak_stats_json);
    call(out, NULL);
    return 0;
}

// Two children, of fork and of _Fork: what they do must not be seen in the parent's file.
static int forks(int other)
{
    fill(0);
    pid_t child = other ? _Fork() : fork();
    if (child == 0) {
        for (unsigned round = 0; round < 20; round++) {
            fill(1);
            usleep(30000); // past the period of a tick
        }
        if (!other) {
            tell();
            wait_for_byte();
        }
        _exit(0);
    }
    if (other) {
        waitpid(child, NULL, 0);
        tell();
        wait_for_byte();
    } else {
        waitpid(child, NULL, 0);
    }
    return 0;
}

// Files that are open now, and the number that the next one would get.
static int files(void)
{
    int next = dup(0);

    close(next);
    dprintf(1, "next %d\n", next);
    tell();
    wait_for_byte();
    return 0;
}

static void on_signal(int number)
{
    static const char text[] = "mine\n";

    (void)number;
    if (write(1, text, sizeof text - 1) < 0)
        abort();
}

static int signalled(int own)
{
    if (own)
        signal(SIGUSR2, on_signal);
    fill(0);
    raise(SIGUSR2);
    dprintf(1, "alive\n");
    return 0;
}

static int two_frees(void)
{
    fill(0);
    void *volatile p = malloc(77);
    free(p);
    free(p);
    return 0;
}

// At rest, then again after a while of work, for the file's renewal.
static int renewed(void)
{
    tell();
    wait_for_byte();
    for (unsigned round = 0; round < 20; round++) {
        fill(round % 4);
        usleep(5000);
    }
    tell();
    wait_for_byte();
    return 0;
}

static int do_as(const char *what)
{
    if (strcmp(what, "threads") == 0)
        return threads();
    if (strcmp(what, "json") == 0)
        return json();
    if (strcmp(what, "info") == 0) {
        fill(0);
        return malloc_info(0, stdout);
    }
    if (strcmp(what, "fork") == 0 || strcmp(what, "_Fork") == 0)
        return forks(what[0] == '_');
    if (strcmp(what, "files") == 0)
        return files();
    if (strcmp(what, "signal") == 0 || strcmp(what, "own-signal") == 0)
        return signalled(what[0] == 'o');
    if (strcmp(what, "double-free") == 0)
        return two_frees();
    if (strcmp(what, "renewed") == 0)
        return renewed();
    return 2;
}

int main(int argc, char **argv)
{
    return argc == 2 ? do_as(argv[1]) : 2;
}
