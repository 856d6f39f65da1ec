// SPDX-License-Identifier: MIT
/*
 * caller: who called, when libc did on somebody's behalf. The return address of a malloc inside strdup, getline or
 * asprintf names libc; the place in the program lies further up the stack.
 *
 * The constructor notes where the code of the modules lies that the program started with. They are never
 * unmapped, so an address in them may be looked at: a word of the stack counts as a return address when a call
 * stands before it. Only words are read that must be there: to the end of the page that holds our own frame,
 * and beyond it where the frame is certainly on the thread's own stack, not on one that the program made.
 * Modules that come by dlopen later are not known: what libc allocates for them is booked to libc.
 */
#include "entry/entry_private.h"

#include "os/os.h"
#include "sync/atomic.h"
#include "sync/lock.h"

#include <link.h>
#include <string.h>
#include <unistd.h>

#define MAX_MODULES 48
#define MAX_BYTES 2048               /* looked at: frames of libc's functions are small */
#define OUR_FRAMES 768               /* from hk_entry_sample_alloc up to the exported function, about */
#define SMALLEST_STACK (16 * HK_KIB) /* PTHREAD_STACK_MIN */
#define MAIN_STACK (8 * HK_MIB)      /* nothing else is mapped so close below the main stack's top */

struct range {
    uintptr_t start, end;
};

/* Written by the constructor, while the process has one thread. */
static HK_START_DATA struct {
    struct range code[MAX_MODULES]; /* of the program's modules; not libc's, not ours */
    unsigned nr;
    struct range libc;
    uintptr_t stack_top;            /* above every frame of the main thread; 0: unknown */
    const void *main_thread;
} known;

static bool is_in(const struct range *range, uintptr_t address)
{
    return address >= range->start && address < range->end;
}

static bool is_libc(const char *path)
{
    const char *name = strrchr(path, '/');

    name = name ? name + 1 : path;
    return strncmp(name, "libc.so", 7) == 0 || strncmp(name, "libc-2", 6) == 0 ||
           strncmp(name, "ld-musl", 7) == 0;
}

static int note_module(struct dl_phdr_info *info, size_t bytes, void *arg)
{
    (void)bytes;
    (void)arg;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        struct range range = {info->dlpi_addr + segment->p_vaddr,
                              info->dlpi_addr + segment->p_vaddr + segment->p_memsz};
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X) || !(segment->p_flags & PF_R))
            continue;
        if (is_libc(info->dlpi_name))
            known.libc = range;
        else if (!is_in(&range, (uintptr_t)note_module) && known.nr < MAX_MODULES)
            known.code[known.nr++] = range;
    }
    return 0;
}

void hk_entry_caller_start(void)
{
    known.main_thread = hk_thread_id();
    known.stack_top = (uintptr_t)environ; /* the array that the kernel put above the first frame, unless moved */
    dl_iterate_phdr(note_module, NULL);
}

/* x86: call rel32, or call through a register or memory. Elsewhere any place in code will do. */
static bool follows_call(uintptr_t address)
{
#if defined(__x86_64__) || defined(__i386__)
    const bool x86 = true;
#else
    const bool x86 = false;
#endif
    const uint8_t *code = (const uint8_t *)address;

    if (!x86 || code[-5] == 0xe8)
        return true;
    for (int back = 2; back <= 7; back++)
        if (code[-back] == 0xff && (code[-back + 1] >> 3 & 7) == 2)
            return true;
    return false;
}

static bool is_return_address(uintptr_t word)
{
    for (unsigned i = 0; i < known.nr; i++)
        if (is_in(&known.code[i], word))
            return word - known.code[i].start >= 8 && follows_call(word);
    return false;
}

/* The stack may be read up to here. */
static uintptr_t readable_end(uintptr_t frame)
{
    uintptr_t page_end = (frame | (hk_os_page_bytes() - 1)) + 1;
    bool main = hk_thread_id() == known.main_thread;
    uintptr_t top = main ? known.stack_top : (uintptr_t)hk_thread_id();

    if (top > frame && top - frame < (main ? MAIN_STACK : SMALLEST_STACK))
        return hk_max(page_end, hk_min(top, frame + MAX_BYTES));
    return page_end;
}

static uintptr_t word_at(uintptr_t at)
{
    uintptr_t word;

    memcpy(&word, (const void *)at, sizeof word);
    return word;
}

/*
 * Behind the place where `site` was pushed as return address: the highest copy among our own frames. Below it lie
 * copies of ours and whatever earlier calls left there, such as return addresses of other callers of malloc.
 */
static uintptr_t above_site(const void *site, uintptr_t at, uintptr_t end)
{
    uintptr_t found = end, stop = hk_min(end, at + OUR_FRAMES);

    for (; at + sizeof(uintptr_t) <= stop; at += sizeof(uintptr_t))
        if (word_at(at) == (uintptr_t)site)
            found = at + sizeof(uintptr_t);
    return found;
}

const void *hk_entry_caller(const void *site, const void *frame, uint32_t *height)
{
    uintptr_t at = (uintptr_t)frame, end = readable_end(at);
    bool main = hk_thread_id() == known.main_thread;

    *height = (uint32_t)((main ? known.stack_top : (uintptr_t)hk_thread_id()) - at);
    if (!is_in(&known.libc, (uintptr_t)site))
        return site;
    for (at = above_site(site, at, end); at + sizeof(uintptr_t) <= end; at += sizeof(uintptr_t))
        if (is_return_address(word_at(at)))
            return (const void *)word_at(at);
    return site;
}
