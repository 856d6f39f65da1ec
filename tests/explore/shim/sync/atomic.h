// SPDX-License-Identifier: MIT
/*
 * What lib/sync/atomic.h is, for the sources as tests/explore compiles them: found first on the include path.
 * Each operation says where it stands and asks the engine (engine.h), which chooses who runs next and what a load sees.
 *
 * Variables of a thread are plain ones here, since all threads of a model run on one of the system's: a model that needs
 * them does not fit yet. The lock's idea of who runs is the engine's.
 */
#ifndef HK_ATOMIC_H
#define HK_ATOMIC_H

#pragma GCC system_header /* its macros: no warnings about what they do to the library's lines */

#include "base/base.h"

#include "engine.h"

#define HK_SITE(operation)                                                                         \
    static struct explore_site here = {.file = __FILE__, .function = __func__, .line = __LINE__,   \
                                       .name = operation}

#define HK_LOAD(p, order, name)                                                                    \
    ({                                                                                             \
        HK_SITE(name);                                                                             \
        (__typeof__(*(p)))(uintptr_t)explore_load(&here, (p), sizeof *(p), order);                 \
    })
#define HK_STORE(p, v, order, name)                                                                \
    ({                                                                                             \
        HK_SITE(name);                                                                             \
        __typeof__(*(p)) value_ = (v);                                                             \
        explore_store(&here, (p), sizeof *(p), (uint64_t)(uintptr_t)value_, order);                \
    })
#define HK_RMW(p, v, kind, order, name)                                                            \
    ({                                                                                             \
        HK_SITE(name);                                                                             \
        (__typeof__(*(p)))(uintptr_t)explore_rmw(&here, (p), sizeof *(p), kind,                    \
                                                 (uint64_t)(uintptr_t)(v), order);                 \
    })
#define HK_CAS(p, expected, v, order, name)                                                        \
    ({                                                                                             \
        HK_SITE(name);                                                                             \
        explore_cas(&here, (p), sizeof *(p), (expected), (uint64_t)(uintptr_t)(v), order);         \
    })

#define hk_load_relaxed(p) HK_LOAD(p, EXPLORE_RELAXED, "load_relaxed")
#define hk_load_acquire(p) HK_LOAD(p, EXPLORE_ACQUIRE, "load_acquire")
#define hk_store_relaxed(p, v) HK_STORE(p, v, EXPLORE_RELAXED, "store_relaxed")
#define hk_store_release(p, v) HK_STORE(p, v, EXPLORE_RELEASE, "store_release")
#define hk_exchange_acquire(p, v) HK_RMW(p, v, EXPLORE_EXCHANGE, EXPLORE_ACQUIRE, "exchange_acquire")
#define hk_exchange_release(p, v) HK_RMW(p, v, EXPLORE_EXCHANGE, EXPLORE_RELEASE, "exchange_release")
#define hk_exchange_acq_rel(p, v) HK_RMW(p, v, EXPLORE_EXCHANGE, EXPLORE_ACQ_REL, "exchange_acq_rel")
#define hk_add_relaxed(p, v) HK_RMW(p, v, EXPLORE_ADD, EXPLORE_RELAXED, "add_relaxed")
#define hk_sub_release(p, v) HK_RMW(p, v, EXPLORE_SUB, EXPLORE_RELEASE, "sub_release")
#define hk_sub_relaxed(p, v) HK_RMW(p, v, EXPLORE_SUB, EXPLORE_RELAXED, "sub_relaxed")
#define hk_or_relaxed(p, v) HK_RMW(p, v, EXPLORE_OR, EXPLORE_RELAXED, "or_relaxed")
#define hk_cas_relaxed(p, expected, v) HK_CAS(p, expected, v, EXPLORE_RELAXED, "cas_relaxed")
#define hk_cas_acquire(p, expected, v) HK_CAS(p, expected, v, EXPLORE_ACQUIRE, "cas_acquire")
#define hk_cas_release(p, expected, v) HK_CAS(p, expected, v, EXPLORE_RELEASE, "cas_release")
#define hk_cas_acq_rel(p, expected, v) HK_CAS(p, expected, v, EXPLORE_ACQ_REL, "cas_acq_rel")
#define hk_fence_full()                                                                            \
    ({                                                                                             \
        HK_SITE("fence_full");                                                                     \
        explore_fence(&here);                                                                      \
    })

/* The load and the store of a single writer. */
#define hk_count_add(p, v)                                                                         \
    ({                                                                                             \
        HK_SITE("count_add");                                                                      \
        __typeof__(*(p)) sum_ = (__typeof__(*(p)))(explore_load(&here, (p), sizeof *(p),           \
                                                                EXPLORE_RELAXED) + (uint64_t)(v)); \
        explore_store(&here, (p), sizeof *(p), (uint64_t)sum_, EXPLORE_RELAXED);                   \
    })

#define hk_signal_fence() ((void)0)

HK_INLINE void hk_cpu_relax(void)
{
    explore_yield();
}

#define __thread
#define tls_model(model) unused
#define held_ranks (*explore_ranks()) /* lock.c declares it once more, as this function */
#define syscall explore_syscall       /* lock.c: the futex is the engine's */

__attribute__((unused)) static uint32_t *explore_ranks()
{
    return explore_identity();
}

#endif
