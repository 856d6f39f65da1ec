// SPDX-License-Identifier: MIT
/*
 * thread: birth of the process's heap and of each thread's, their end, and fork.
 *
 * hk_thread_heap(), called inside a slow section, is the only way to a heap for slow paths. The first call of the process initialises
 * everything with system calls alone: nothing here allocates, resolves symbols or uses stdio, so that the
 * first malloc may come from anywhere, before any constructor. The first call of a thread adopts or makes
 * a heap; a pthread key's destructor parks it. Destructors of other keys may still allocate after ours:
 * it asks to be called again until the last round, and after that the thread has no heap (malloc and free
 * then work through the depot, and no new thread-local state is made).
 *
 * Owner: TLS of the calling thread, and one init word. Locks: none of its own. Failure: NULL, and the
 * caller works without a heap.
 */
#ifndef HK_THREAD_H
#define HK_THREAD_H

#include "config/config.h"
#include "heap/heap.h"

/*
 * A slow section: from enter to leave the thread's heap may be in any state, so its fast paths are off, and
 * a signal handler that allocates meanwhile gets `false` from enter and must do without (hk_ace_loose_*).
 */
extern HK_HIDDEN __thread uint8_t hk_in_slow_section __attribute__((tls_model("initial-exec")));

HK_INLINE bool hk_thread_enter(void)
{
    if (HK_UNLIKELY(hk_in_slow_section))
        return false;
    hk_in_slow_section = 1;
    hk_signal_fence();
    hk_heap_self = (struct hk_heap *)&hk_heap_empty;
    hk_signal_fence();
    return true;
}

void hk_thread_leave(void);

/* For a section that was entered with fast paths on and did nothing that may turn them off. False: a signal
 * handler left work, hk_thread_leave is to be called. */
HK_INLINE bool hk_thread_try_leave(struct hk_heap *heap)
{
    if (HK_UNLIKELY(heap->any_deferred))
        return false;
    hk_signal_fence();
    hk_heap_self = heap;
    hk_signal_fence();
    hk_in_slow_section = 0;
    return true;
}

HK_INLINE void hk_thread_leave_fast(struct hk_heap *heap)
{
    if (HK_UNLIKELY(!hk_thread_try_leave(heap)))
        hk_thread_leave();
}

/* In a refused section: the block is freed when the interrupted one ends. Any number; when no memory can be
 * had for the list, the block is lost and counted (stats.nr_lost). */
void hk_thread_defer_free(void *p);

/* The calling thread's heap, or NULL: no memory, the thread is ending, or it is about to abort. */
struct hk_heap *hk_thread_heap(void);
/* Off: every malloc and free of this thread, and of threads that start later, takes the slow path, which
 * may then do what the fast path cannot (M_PERTURB). */
void hk_thread_fast_paths(bool on); /* inside a slow section */
/* After a diagnostic: the heap is out of bounds for this thread. */
bool hk_thread_is_panicking(void);
/* Inside a slow section, hk_config_lock held since the proposal: publishes what follows from the change,
 * then commits it. 0, or ENOMEM and nothing has changed. */
int hk_thread_change_option(const struct hk_config_change *change, const char *by);
/* The kernel's id of the calling thread, without a system call where libc keeps it. */
unsigned hk_thread_kernel_id(void);
/* Constructor's part: fork handlers, which allocate. */
void hk_thread_start(void);

#endif
