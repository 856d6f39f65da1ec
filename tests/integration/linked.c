// SPDX-License-Identifier: MIT
//
// A program that is linked with the library, shared or static; built by links.sh.
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern void *hak_malloc(size_t) __attribute__((weak));

static void *work(void *unused)
{
    void *volatile block[500];

    (void)unused;
    for (size_t i = 0; i < 500; i++) {
        block[i] = malloc(i * i);
        memset(block[i], (int)i, i * i);
    }
    for (size_t i = 0; i < 500; i++)
        free(block[i]);
    return NULL;
}

int main(void)
{
    pthread_t thread;
    char *line = NULL, *text = strdup("a string");
    size_t room = 0;
    int status = 1;
    void *volatile huge;
    volatile size_t size = SIZE_MAX;

    if (hak_malloc == NULL) {
        printf("the library is not linked in\n");
        return 1;
    }
    for (int i = 0; i < 20; i++) {
        pthread_create(&thread, NULL, work, NULL);
        work(NULL);
        pthread_join(thread, NULL);
    }
    errno = 0;
    huge = malloc(size);
    if (huge != NULL || errno != ENOMEM)
        return 2;
    // aligned_alloc is libc's in a program that took only some functions from the library.
    void *volatile aligned = aligned_alloc(4096, 100);
    if (aligned == NULL || ((uintptr_t)aligned & 4095) != 0 || malloc_usable_size(aligned) < 100)
        return 3;
    free(aligned);
    FILE *file = fopen("/proc/self/status", "r");
    while (getline(&line, &room, file) > 0)
        continue;
    fclose(file);
    free(line);
    free(text);
    pid_t child = fork();
    if (child == 0) {
        work(NULL);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return status == 0 ? 0 : 4;
}
