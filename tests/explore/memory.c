// SPDX-License-Identifier: MIT
/*
 * memory: what the threads of a schedule see. See engine.h for what is modelled.
 *
 * Each word that is used by atomic operations has its stores in order of execution. A store carries what its
 * writer releases with it, and for each thread the time at which that thread first saw it or a later one. A load by
 * t may return any store from the newest that t knows to be there or to have been seen: coherence and
 * happens-before in one test.
 *
 * Time: one counter per thread, which moves at each release. A clock has two halves. `hb` is
 * happens-before, by which races are judged. `seen` is as much or more: the sequentially consistent fence
 * also carries what was visible from fence to fence, which orders loads but excuses no race.
 */
#include "engine_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint16_t lanes __attribute__((vector_size(16))); /* one per byte of a granule */

struct clock {
    uint16_t hb[EXPLORE_THREADS], seen[EXPLORE_THREADS];
};

#define MAX_STORES 48

struct store {
    uint64_t value;
    struct clock sync;               /* joined by who acquires it */
    uint16_t known[EXPLORE_THREADS]; /* when each thread first saw or made it; 0: not yet */
};

/* A word of atomic operations, for ever; what follows `schedule` is of that schedule. */
struct word {
    uintptr_t address;
    size_t size;
    unsigned users;                  /* threads, one bit each, of any schedule */
    struct word *next;               /* in its bucket */
    uint64_t schedule;
    unsigned nr_stores;
    bool plain_pending;              /* a plain write has gone by; by whom and when: */
    unsigned plain_writer;
    uint16_t plain_time;
    uint16_t loads[EXPLORE_THREADS], stores[EXPLORE_THREADS]; /* last atomic ones, for races */
    struct store store[MAX_STORES];
};

/* Eight bytes of memory that plain accesses have met. */
struct granule {
    uintptr_t number;                /* address / 8; 0: unused */
    uint64_t schedule;
    uint8_t atomic_bytes;            /* first bytes of words; for ever */
    uint8_t class;                   /* enum below; for ever */
    uint8_t undo;                    /* bytes whose old value is noted */
    lanes read[EXPLORE_THREADS], written[EXPLORE_THREADS];
    void *reader[EXPLORE_THREADS], *writer[EXPLORE_THREADS]; /* code that did so last */
};
enum { ORDINARY, IGNORED, RACY };

struct undo {
    uintptr_t address;
    uint64_t value;
};

#define NR_GRANULES ((size_t)1 << 19)
#define NR_BUCKETS 4096
#define MAX_UNDO ((size_t)1 << 20)

static struct granule *granules;
static struct word *buckets[NR_BUCKETS];
static struct undo *undo;
static size_t nr_undo;
static uint64_t schedule = 1;
static struct clock clocks[EXPLORE_THREADS], acquired[EXPLORE_THREADS], released[EXPLORE_THREADS], fences;
static lanes byte_masks[256];

static struct explore_site *sites;
static struct {
    char function[64], operation[32];
    bool forces;
    uint64_t value;
    int number; /* so that a site knows for which control it was looked up */
} control;
static unsigned nr_seeded_hits;

void memory_start(void)
{
    granules = calloc(NR_GRANULES, sizeof *granules);
    undo = malloc(MAX_UNDO * sizeof *undo);
    if (!granules || !undo)
        abort();
    for (unsigned m = 0; m < 256; m++)
        for (unsigned i = 0; i < 8; i++)
            byte_masks[m][i] = m >> i & 1 ? 0xffff : 0;
}

/* ---- clocks -------------------------------------------------------------------------------- */

static void join(struct clock *into, const struct clock *from)
{
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        if (from->hb[t] > into->hb[t])
            into->hb[t] = from->hb[t];
        if (from->seen[t] > into->seen[t])
            into->seen[t] = from->seen[t];
    }
}

static uint16_t now(unsigned thread)
{
    return clocks[thread].hb[thread];
}

/* What follows is not covered by what was released so far. */
static void tick(unsigned thread)
{
    clocks[thread].hb[thread]++;
    clocks[thread].seen[thread]++;
}

void memory_begin(void)
{
    schedule++;
    nr_undo = 0;
    nr_seeded_hits = 0;
    memset(clocks, 0, sizeof clocks);
    memset(acquired, 0, sizeof acquired);
    memset(released, 0, sizeof released);
    memset(&fences, 0, sizeof fences);
    for (unsigned t = 0; t < EXPLORE_THREADS; t++)
        clocks[t].hb[t] = clocks[t].seen[t] = 1;
}

void memory_join_all(unsigned thread)
{
    for (unsigned t = 0; t < EXPLORE_THREADS; t++)
        if (t != thread) {
            clocks[thread].hb[t] = clocks[t].hb[t];
            clocks[thread].seen[t] = clocks[t].seen[t];
        }
}

/* The kernel orders what the waker stored before what the woken thread loads; it is no excuse for a race. */
void memory_wakes(unsigned waker, unsigned woken)
{
    for (unsigned t = 0; t < EXPLORE_THREADS; t++)
        if (clocks[waker].seen[t] > clocks[woken].seen[t])
            clocks[woken].seen[t] = clocks[waker].seen[t];
    tick(waker);
}

/* ---- granules ------------------------------------------------------------------------------ */

static struct granule *granule_of(uintptr_t address)
{
    uintptr_t number = address >> 3;
    size_t i = (number ^ number >> 19) & (NR_GRANULES - 1), looks = 0;

    while (granules[i].number != number) {
        if (granules[i].number == 0) {
            granules[i].number = number;
            break;
        }
        i = (i + 1) & (NR_GRANULES - 1);
        if (++looks > NR_GRANULES / 2) {
            fprintf(stderr, "explore: out of granules\n");
            abort();
        }
    }
    if (granules[i].schedule != schedule) {
        granules[i].schedule = schedule;
        granules[i].undo = 0;
        memset(granules[i].read, 0, sizeof granules[i].read + sizeof granules[i].written);
    }
    return &granules[i];
}

static void note_write(struct granule *g, uint8_t mask)
{
    if ((g->undo & mask) == mask)
        return;
    if (nr_undo == MAX_UNDO)
        explore_fail("a schedule that writes for ever");
    undo[nr_undo].address = g->number << 3;
    undo[nr_undo++].value = *(const uint64_t *)(g->number << 3);
    g->undo = 0xff; /* whole granules: an entry of the first write restores all eight bytes */
}

void memory_note_write(volatile void *p, size_t bytes)
{
    uintptr_t first = (uintptr_t)p, end = first + bytes;

    if (explore_phase == SETUP)
        return;
    for (uintptr_t a = first & ~(uintptr_t)7; a < end; a += 8)
        note_write(granule_of(a), 0xff);
}

void memory_undo(void)
{
    while (nr_undo > 0) {
        nr_undo--;
        *(uint64_t *)undo[nr_undo].address = undo[nr_undo].value;
    }
}

static void set_class(const volatile void *p, size_t bytes, uint8_t class)
{
    for (uintptr_t a = (uintptr_t)p & ~(uintptr_t)7; a < (uintptr_t)p + bytes; a += 8) {
        struct granule *g = granule_of(a);
        g->class = class;
        if (class == RACY)
            g->atomic_bytes |= 1; /* words of eight bytes: see racy_copy() */
    }
}

void explore_ignore(const volatile void *p, size_t bytes)
{
    set_class(p, bytes, IGNORED);
}

void explore_racy(const volatile void *p, size_t bytes)
{
    set_class(p, bytes, RACY);
}

/* ---- words --------------------------------------------------------------------------------- */

/* size 0: of any. Memory that is freed may be used as words of another size later. */
static struct word *next_word(struct word *w, uintptr_t address, size_t size)
{
    while (w && (w->address != address || (size && w->size != size)))
        w = w->next;
    return w;
}

static struct word *find_word(uintptr_t address, size_t size)
{
    return next_word(buckets[(address >> 3 ^ address >> 15) % NR_BUCKETS], address, size);
}

static uint64_t read_memory(uintptr_t address, size_t size)
{
    switch (size) {
    case 1:
        return *(const volatile uint8_t *)address;
    case 2:
        return *(const volatile uint16_t *)address;
    case 4:
        return *(const volatile uint32_t *)address;
    default:
        return *(const volatile uint64_t *)address;
    }
}

static void write_memory(uintptr_t address, size_t size, uint64_t value)
{
    switch (size) {
    case 1:
        *(volatile uint8_t *)address = (uint8_t)value;
        break;
    case 2:
        *(volatile uint16_t *)address = (uint16_t)value;
        break;
    case 4:
        *(volatile uint32_t *)address = (uint32_t)value;
        break;
    default:
        *(volatile uint64_t *)address = value;
    }
}

static struct word *make_word(uintptr_t address, size_t size)
{
    struct word **bucket = &buckets[(address >> 3 ^ address >> 15) % NR_BUCKETS];
    struct word *w = calloc(1, sizeof *w);

    if (!w)
        abort();
    w->address = address;
    w->size = size;
    w->next = *bucket;
    *bucket = w;
    granule_of(address)->atomic_bytes |= (uint8_t)(1u << (address & 7));
    explore_grew();
    return w;
}

static struct store *add_store(struct word *w, uint64_t value)
{
    struct store *s;

    if (w->nr_stores == MAX_STORES) { /* the oldest can no longer be seen */
        memmove(w->store, w->store + 1, (MAX_STORES - 1) * sizeof *w->store);
        w->nr_stores--;
    }
    s = &w->store[w->nr_stores++];
    memset(s, 0, sizeof *s);
    s->value = value;
    return s;
}

/* The first store of a schedule is what the word held before, which everybody may see. */
static void refresh(struct word *w)
{
    if (w->schedule != schedule) {
        w->schedule = schedule;
        w->nr_stores = 0;
        w->plain_pending = false;
        memset(w->loads, 0, sizeof w->loads);
        memset(w->stores, 0, sizeof w->stores);
        add_store(w, read_memory(w->address, w->size));
    }
    if (read_memory(w->address, w->size) != w->store[w->nr_stores - 1].value) {
        struct store *s = add_store(w, read_memory(w->address, w->size));
        if (w->plain_pending)
            s->known[w->plain_writer] = w->plain_time;
    }
    w->plain_pending = false;
}

static struct word *word_at(const volatile void *p, size_t size)
{
    struct word *w = find_word((uintptr_t)p, size);

    if (!w)
        w = make_word((uintptr_t)p, size);
    refresh(w);
    return w;
}

/* A plain write is about to happen: it becomes a store when the word is looked at next. */
static void meet_plain_write(struct word *w)
{
    refresh(w);
    w->plain_pending = true;
    w->plain_writer = explore_current;
    w->plain_time = now(explore_current);
}

/* ---- races --------------------------------------------------------------------------------- */

static const char *place(void *code, char *buffer, size_t bytes)
{
    extern char __executable_start;
    char command[256];
    FILE *f;
    size_t n = 0;

    snprintf(command, sizeof command, "addr2line -sfe /proc/%d/exe 0x%zx 2>/dev/null | tr '\\n' ' '", (int)getpid(),
             (size_t)((char *)code - 1 - &__executable_start));
    f = code ? popen(command, "r") : NULL;
    if (f) {
        n = fread(buffer, 1, bytes - 1, f);
        pclose(f);
    }
    buffer[n] = 0;
    return n ? buffer : "somewhere";
}

_Noreturn static void race(uintptr_t address, const char *one, void *code, const char *other, void *other_code)
{
    char here[200], there[200];

    explore_fail("race at %#zx: %s by T%u in %s, after %s in %s", (size_t)address, one, explore_current,
                 place(code, here, sizeof here), other, place(other_code, there, sizeof there));
}

static bool any(lanes v)
{
    typedef uint64_t halves __attribute__((vector_size(16)));
    halves h = (halves)v;

    return (h[0] | h[1]) != 0;
}

static void check_word(struct word *w, bool ordinary, bool write, void *code)
{
    refresh(w);
    for (unsigned t = 0; t < EXPLORE_THREADS && ordinary; t++) {
        if (t == explore_current)
            continue;
        if (w->stores[t] > clocks[explore_current].hb[t])
            race(w->address, write ? "plain write" : "plain read", code, "an atomic store", NULL);
        if (write && w->loads[t] > clocks[explore_current].hb[t])
            race(w->address, "plain write", code, "an atomic load", NULL);
    }
    if (write)
        meet_plain_write(w);
}

static void check_words(struct granule *g, uint8_t mask, bool write, void *code)
{
    for (unsigned i = 0; i < 8; i++)
        for (struct word *w = g->atomic_bytes >> i & 1 ? find_word((g->number << 3) + i, 0) : NULL; w;
             w = next_word(w->next, w->address, 0))
            if (mask & (((1u << w->size) - 1) << i))
                check_word(w, g->class == ORDINARY, write, code);
}

static void check_granule(struct granule *g, uint8_t mask, bool write, void *code)
{
    const lanes m = byte_masks[mask];
    unsigned me = explore_current;
    const struct clock *c = &clocks[me];
    lanes mine = (lanes){0} + now(me), *own = write ? &g->written[me] : &g->read[me];

    if (g->atomic_bytes)
        check_words(g, mask, write, code);
    if (g->class != ORDINARY || !any((*own ^ mine) & m))
        return;
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        lanes known = (lanes){0} + c->hb[t];
        if (t == me)
            continue;
        if (any((lanes)(g->written[t] > known) & m))
            race(g->number << 3, write ? "write" : "read", code, "a write", g->writer[t]);
        if (write && any((lanes)(g->read[t] > known) & m))
            race(g->number << 3, "write", code, "a read", g->reader[t]);
    }
    *own = (*own & ~m) | (mine & m);
    (write ? g->writer : g->reader)[me] = code;
}

static void plain(uintptr_t address, size_t size, bool write, void *code)
{
    uintptr_t end = address + size;

    if (explore_phase == SETUP)
        return;
    if (explore_phase == RUNNING && address - explore_stack() < STACK_BYTES)
        return;
    for (uintptr_t a = address & ~(uintptr_t)7; a < end; a += 8) {
        unsigned from = a < address ? (unsigned)(address - a) : 0;
        unsigned to = end - a < 8 ? (unsigned)(end - a) : 8;
        uint8_t mask = (uint8_t)((1u << to) - (1u << from));
        struct granule *g = granule_of(a);
        if (write && g->class == RACY && explore_phase == RUNNING)
            explore_switch_point();
        if (write)
            note_write(g, mask);
        if (explore_phase == RUNNING && g->class != IGNORED)
            check_granule(g, mask, write, code);
    }
}

/* An atomic operation against plain ones. */
static void check_atomic(struct word *w, bool write, void *code)
{
    struct granule *g = granule_of(w->address);
    lanes m = byte_masks[(uint8_t)(((1u << w->size) - 1) << (w->address & 7))];
    unsigned me = explore_current;

    if (write)
        w->stores[me] = now(me);
    else
        w->loads[me] = now(me);
    if (g->class != ORDINARY)
        return;
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        lanes known = (lanes){0} + clocks[me].hb[t];
        if (t == me)
            continue;
        if (any((lanes)(g->written[t] > known) & m))
            race(w->address, write ? "atomic store" : "atomic load", code, "a plain write", g->writer[t]);
        if (write && any((lanes)(g->read[t] > known) & m))
            race(w->address, "atomic store", code, "a plain read", g->reader[t]);
    }
}

/* ---- seeded bugs --------------------------------------------------------------------------- */

enum { AS_WRITTEN, WEAKENED, FORCED };

void memory_use_control(const struct explore_control *c)
{
    const char *colon, *equals;

    control.number++;
    control.function[0] = 0;
    control.forces = false;
    if (!c)
        return;
    colon = strchr(c->site, ':');
    equals = strchr(c->site, '=');
    if (!colon)
        abort();
    snprintf(control.function, sizeof control.function, "%.*s", (int)(colon - c->site), c->site);
    snprintf(control.operation, sizeof control.operation, "%.*s",
             equals ? (int)(equals - colon - 1) : 31, colon + 1);
    control.forces = equals != NULL;
    control.value = equals ? strtoull(equals + 1, NULL, 0) : 0;
}

unsigned memory_nr_seeded_hits(void)
{
    return nr_seeded_hits;
}

static int seeded(struct explore_site *site)
{
    if (site->hits++ == 0) {
        site->next = sites;
        sites = site;
    }
    if (site->known != control.number) {
        bool is = strcmp(site->function, control.function) == 0 && strcmp(site->name, control.operation) == 0;
        site->known = control.number;
        site->seeded = !is ? AS_WRITTEN : control.forces ? FORCED : WEAKENED;
        site->forced = control.value;
    }
    nr_seeded_hits += site->seeded != AS_WRITTEN;
    return site->seeded;
}

/* Each operation that some model has met and whose order matters. */
void memory_list_sites(void)
{
    for (struct explore_site *s = sites; s; s = s->next)
        if (strstr(s->name, "relaxed") == NULL && strcmp(s->name, "count_add") != 0)
            printf("%s:%s %s:%d %llu\n", s->function, s->name, s->file, s->line, (unsigned long long)s->hits);
}

/* ---- operations ---------------------------------------------------------------------------- */

static bool is_shared(struct word *w)
{
    unsigned users = w->users | 1u << explore_current;

    if (users != w->users) {
        w->users = users;
        if (users & (users - 1))
            explore_grew();
    }
    return (users & (users - 1)) != 0;
}

static bool is_ignored(const volatile void *p)
{
    return granule_of((uintptr_t)p)->class == IGNORED;
}

/* The word, once it is this thread's turn; NULL: outside a schedule, or ignored. */
static struct word *arrive(const volatile void *p, size_t size)
{
    struct word *w;

    if (explore_phase != RUNNING || is_ignored(p))
        return NULL;
    w = word_at(p, size);
    if (is_shared(w)) {
        explore_switch_point();
        refresh(w);
    }
    return w;
}

__attribute__((format(printf, 3, 4)))
static void say(const struct explore_site *site, const volatile void *p, const char *format, ...)
{
    char text[200];
    const char *file = strrchr(site->file, '/');
    va_list ap;

    if (!explore_tracing)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    explore_trace("%s:%d %s: %s of %p %s", file ? file + 1 : site->file, site->line, site->function, site->name,
                  (const void *)p, text);
}

static bool is_known(const struct store *s, unsigned thread)
{
    for (unsigned t = 0; t < EXPLORE_THREADS; t++)
        if (s->known[t] && s->known[t] <= clocks[thread].seen[t])
            return true;
    return false;
}

/* How many stores, from the newest on, the thread may see. */
static unsigned nr_visible(const struct word *w, unsigned thread)
{
    unsigned n = 1;

    while (n < w->nr_stores && !is_known(&w->store[w->nr_stores - n], thread))
        n++;
    return n;
}

static void see(struct store *s, unsigned thread, enum explore_order order)
{
    if (!s->known[thread])
        s->known[thread] = now(thread);
    join(&acquired[thread], &s->sync); /* for a fence to come */
    if (order & EXPLORE_ACQUIRE)
        join(&clocks[thread], &s->sync);
}

/* The newest store is the thread's own; `rmw`: it goes on where the one before released. */
static void make_store(struct word *w, uint64_t value, enum explore_order order, bool rmw)
{
    unsigned me = explore_current;
    struct clock before = w->store[w->nr_stores - 1].sync;
    struct store *s = add_store(w, value);

    s->known[me] = now(me);
    s->sync = released[me];
    if (rmw)
        join(&s->sync, &before);
    if (order & EXPLORE_RELEASE) {
        join(&s->sync, &clocks[me]);
        tick(me);
    }
    memory_note_write((volatile void *)w->address, w->size);
    write_memory(w->address, w->size, value);
}

uint64_t explore_load(struct explore_site *site, const volatile void *p, size_t size, enum explore_order order)
{
    int bug = seeded(site);
    struct word *w = arrive(p, size);
    unsigned age;
    struct store *s;

    if (!w)
        return read_memory((uintptr_t)p, size);
    if (bug == FORCED)
        return site->forced;
    check_atomic(w, false, __builtin_return_address(0));
    age = explore_choose_store(nr_visible(w, explore_current));
    s = &w->store[w->nr_stores - 1 - age];
    see(s, explore_current, bug == WEAKENED ? EXPLORE_RELAXED : order);
    say(site, p, "gives %#llx%s", (unsigned long long)s->value, age ? ", an old value" : "");
    return s->value;
}

void explore_store(struct explore_site *site, volatile void *p, size_t size, uint64_t value, enum explore_order order)
{
    int bug = seeded(site);
    struct word *w = arrive(p, size);

    if (!w) {
        memory_note_write(p, size);
        write_memory((uintptr_t)p, size, value);
        return;
    }
    if (bug == FORCED)
        return; /* it is forgotten */
    check_atomic(w, true, __builtin_return_address(0));
    make_store(w, value, bug == WEAKENED ? EXPLORE_RELAXED : order, false);
    say(site, p, "%#llx", (unsigned long long)value);
}

static uint64_t apply(enum explore_rmw kind, uint64_t old, uint64_t operand, size_t size)
{
    uint64_t result = kind == EXPLORE_EXCHANGE ? operand
                      : kind == EXPLORE_ADD    ? old + operand
                      : kind == EXPLORE_SUB    ? old - operand
                                               : old | operand;

    return size == 8 ? result : result & ((UINT64_C(1) << 8 * size) - 1);
}

uint64_t explore_rmw(struct explore_site *site, volatile void *p, size_t size, enum explore_rmw kind,
                     uint64_t operand, enum explore_order order)
{
    int bug = seeded(site);
    struct word *w = arrive(p, size);
    uint64_t old;

    if (!w) {
        old = read_memory((uintptr_t)p, size);
        memory_note_write(p, size);
        write_memory((uintptr_t)p, size, apply(kind, old, operand, size));
        return old;
    }
    order = bug == WEAKENED ? EXPLORE_RELAXED : order;
    check_atomic(w, true, __builtin_return_address(0));
    old = w->store[w->nr_stores - 1].value;
    see(&w->store[w->nr_stores - 1], explore_current, order);
    make_store(w, apply(kind, old, operand, size), order, true);
    say(site, p, "gives %#llx", (unsigned long long)old);
    return bug == FORCED ? site->forced : old;
}

/* May fail for an older value than the one there is: then it is a relaxed load. */
static unsigned choose_failure(struct word *w, uint64_t expected)
{
    unsigned n = nr_visible(w, explore_current), candidates[MAX_STORES], nr = 0;

    candidates[nr++] = 0;
    for (unsigned age = 1; age < n; age++)
        if (w->store[w->nr_stores - 1 - age].value != expected)
            candidates[nr++] = age;
    return candidates[explore_choose_store(nr)];
}

bool explore_cas(struct explore_site *site, volatile void *p, size_t size, void *expected, uint64_t value,
                 enum explore_order order)
{
    int bug = seeded(site);
    struct word *w = arrive(p, size);
    uint64_t want, old;
    unsigned age = 0;
    bool done;

    if (w && bug == FORCED)
        return site->forced != 0; /* and nothing is stored */
    if (w)
        plain((uintptr_t)expected, size, false, __builtin_return_address(0));
    want = read_memory((uintptr_t)expected, size);
    if (w) {
        age = choose_failure(w, want);
        old = w->store[w->nr_stores - 1 - age].value;
    } else {
        old = read_memory((uintptr_t)p, size);
    }
    done = old == want;
    if (!done) {
        if (w) {
            check_atomic(w, false, __builtin_return_address(0));
            see(&w->store[w->nr_stores - 1 - age], explore_current, EXPLORE_RELAXED);
            plain((uintptr_t)expected, size, true, __builtin_return_address(0));
            say(site, p, "fails, finds %#llx%s", (unsigned long long)old, age ? ", an old value" : "");
        } else {
            memory_note_write(expected, size);
        }
        write_memory((uintptr_t)expected, size, old);
        return false;
    }
    if (!w) {
        memory_note_write(p, size);
        write_memory((uintptr_t)p, size, value);
        return true;
    }
    order = bug == WEAKENED ? EXPLORE_RELAXED : order;
    check_atomic(w, true, __builtin_return_address(0));
    see(&w->store[w->nr_stores - 1], explore_current, order);
    make_store(w, value, order, true);
    say(site, p, "%#llx for %#llx", (unsigned long long)value, (unsigned long long)old);
    return true;
}

void explore_fence(struct explore_site *site)
{
    unsigned me = explore_current;

    if (explore_phase != RUNNING || seeded(site) == WEAKENED)
        return;
    explore_switch_point();
    join(&clocks[me], &acquired[me]);
    for (unsigned t = 0; t < EXPLORE_THREADS; t++) {
        if (clocks[me].seen[t] > fences.seen[t])
            fences.seen[t] = clocks[me].seen[t];
        clocks[me].seen[t] = fences.seen[t];
    }
    released[me] = clocks[me];
    tick(me);
    say(site, NULL, "%s", "");
}

/* ---- what the compiler's instrumentation calls, without prototypes ------------------------- */

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-declarations"
#endif

#define CODE __builtin_return_address(0)
#define ACCESS(size)                                                                               \
    void __tsan_read##size(void *p) { plain((uintptr_t)p, size, false, CODE); }                    \
    void __tsan_write##size(void *p) { plain((uintptr_t)p, size, true, CODE); }                    \
    void __tsan_unaligned_read##size(void *p) { plain((uintptr_t)p, size, false, CODE); }          \
    void __tsan_unaligned_write##size(void *p) { plain((uintptr_t)p, size, true, CODE); }          \
    void __tsan_read_write##size(void *p)                                                          \
    {                                                                                              \
        plain((uintptr_t)p, size, false, CODE);                                                    \
        plain((uintptr_t)p, size, true, CODE);                                                     \
    }                                                                                              \
    void __tsan_unaligned_read_write##size(void *p) { __tsan_read_write##size(p); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void *p, size_t n) { plain((uintptr_t)p, n, false, CODE); }
void __tsan_write_range(void *p, size_t n) { plain((uintptr_t)p, n, true, CODE); }
void __tsan_func_entry(void *p) { (void)p; }
void __tsan_func_exit(void) {}
void __tsan_init(void) {}

/* lib/os lies below sync and counts by itself; nothing depends on its counters. */
long __tsan_atomic64_load(const volatile long *p, int order) { return (void)order, *p; }
void __tsan_atomic64_store(volatile long *p, long value, int order)
{
    (void)order;
    memory_note_write(p, sizeof *p);
    *p = value;
}
long __tsan_atomic64_exchange(volatile long *p, long value, int order)
{
    long old = *p;

    __tsan_atomic64_store(p, value, order);
    return old;
}

long __tsan_atomic64_fetch_add(volatile long *p, long value, int order)
{
    long old = *p;

    __tsan_atomic64_store(p, old + value, order);
    return old;
}

/* ---- and the linker's --wrap --------------------------------------------------------------- */

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int byte, size_t n);
int __real_memcmp(const void *a, const void *b, size_t n);

/* Out of a sequence lock's rows: each eight bytes may be old or new by themselves. */
static void copy_granules(char *to, const char *from, size_t n, void *code)
{
    static struct explore_site here = {.file = __FILE__, .function = "memcpy", .name = "load_relaxed"};

    for (size_t i = 0; i < n; i += 8) {
        size_t some = n - i < 8 ? n - i : 8;
        uint64_t value = 0;
        if (granule_of((uintptr_t)from + i)->class == RACY) {
            value = explore_load(&here, from + i, 8, EXPLORE_RELAXED);
        } else {
            plain((uintptr_t)from + i, some, false, code);
            __real_memcpy(&value, from + i, some);
        }
        plain((uintptr_t)to + i, some, true, code);
        __real_memcpy(to + i, &value, some);
    }
}

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
    if (explore_phase == RUNNING && n && granule_of((uintptr_t)from)->class != ORDINARY) {
        copy_granules(to, from, n, CODE);
        return to;
    }
    plain((uintptr_t)from, n, false, CODE);
    plain((uintptr_t)to, n, true, CODE);
    return __real_memcpy(to, from, n);
}

void *__wrap_memmove(void *to, const void *from, size_t n)
{
    plain((uintptr_t)from, n, false, CODE);
    plain((uintptr_t)to, n, true, CODE);
    return __real_memmove(to, from, n);
}

void *__wrap_memset(void *to, int byte, size_t n)
{
    plain((uintptr_t)to, n, true, CODE);
    return __real_memset(to, byte, n);
}

int __wrap_memcmp(const void *a, const void *b, size_t n)
{
    plain((uintptr_t)a, n, false, CODE);
    plain((uintptr_t)b, n, false, CODE);
    return __real_memcmp(a, b, n);
}

void *__tsan_memcpy(void *to, const void *from, size_t n) { return __wrap_memcpy(to, from, n); }
void *__tsan_memmove(void *to, const void *from, size_t n) { return __wrap_memmove(to, from, n); }
void *__tsan_memset(void *to, int byte, size_t n) { return __wrap_memset(to, byte, n); }
