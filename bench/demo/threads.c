// SPDX-License-Identifier: MIT
/*
 * threads: several threads churn blocks of many sizes, hand some to each other, end and are replaced.
 *
 *     threads [THREADS [ROUNDS]]
 *
 * Each thread owns a table of live blocks. A step replaces a random one by a block of a new size, most
 * of them small, some of many KiB; every sixteenth goes to another thread's mail box instead, which
 * the receiver frees. After a quarter of its rounds a thread ends and another one goes on in its
 * place. Prints a checksum that does not depend on the allocator.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 64
#define LIVE 4000
#define MAIL 256
#define LIVES 4 /* threads per place, one after the other */

struct place {
    _Alignas(64) _Atomic(void *) mail[MAIL]; /* written by neighbours, emptied by this place's thread */
    pthread_t thread;
    unsigned index;
    uint64_t seed;
    uint64_t sum;       /* of sizes asked for */
    unsigned char *live[LIVE];
};

static struct place places[MAX_THREADS];
static unsigned nr_places = 4;
static long rounds = 4000000;

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Mostly up to 256 bytes, one in 16 up to 8 KiB, one in 256 up to 64 KiB. */
static size_t random_size(uint64_t r)
{
    if ((r & 255) == 0)
        return 1 + (r >> 8) % 65536;
    if ((r & 15) == 0)
        return 1 + (r >> 8) % 8192;
    return 1 + (r >> 8) % 256;
}

static void *new_block(size_t bytes)
{
    unsigned char *block = malloc(bytes);

    if (!block) {
        fprintf(stderr, "threads: out of memory\n");
        exit(1);
    }
    block[0] = (unsigned char)bytes;
    block[bytes - 1] = (unsigned char)bytes;
    return block;
}

static void step(struct place *self)
{
    uint64_t r = next_random(&self->seed);
    size_t bytes = random_size(r);
    unsigned char *block = new_block(bytes);

    self->sum += bytes;
    if ((r >> 40) % 16 == 0) {
        struct place *other = &places[(r >> 48) % nr_places];
        free(atomic_exchange(&other->mail[(r >> 52) % MAIL], block));
        free(atomic_exchange(&self->mail[(r >> 44) % MAIL], NULL));
        return;
    }
    unsigned char **slot = &self->live[(r >> 32) % LIVE];
    free(*slot);
    *slot = block;
}

static void *run(void *place)
{
    struct place *self = place;

    for (long i = 0; i < rounds / LIVES; i++)
        step(self);
    return NULL;
}

static void start(struct place *p)
{
    if (pthread_create(&p->thread, NULL, run, p) != 0) {
        fprintf(stderr, "threads: cannot create a thread\n");
        exit(1);
    }
}

static uint64_t empty(struct place *p)
{
    for (int i = 0; i < LIVE; i++)
        free(p->live[i]);
    for (int i = 0; i < MAIL; i++)
        free(atomic_load(&p->mail[i]));
    return p->sum;
}

int main(int argc, char **argv)
{
    uint64_t sum = 0;

    if (argc > 1)
        nr_places = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        rounds = strtol(argv[2], NULL, 10);
    if (nr_places < 1 || nr_places > MAX_THREADS) {
        fprintf(stderr, "usage: threads [1..%d [ROUNDS]]\n", MAX_THREADS);
        return 2;
    }
    for (unsigned i = 0; i < nr_places; i++) {
        places[i].index = i;
        places[i].seed = 88172645463325252u + i * 7919u;
    }
    for (int life = 0; life < LIVES; life++) {
        for (unsigned i = 0; i < nr_places; i++)
            start(&places[i]);
        for (unsigned i = 0; i < nr_places; i++)
            pthread_join(places[i].thread, NULL);
    }
    for (unsigned i = 0; i < nr_places; i++)
        sum += empty(&places[i]);
    printf("%llu bytes in %ld blocks\n", (unsigned long long)sum, rounds / LIVES * LIVES * nr_places);
    return 0;
}
