// SPDX-License-Identifier: MIT
//
// The 20 operators of C++: each one called, and what happens when memory is short.
#include "harness.h"

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <exception>
#include <hakmem/hakmem.h>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

namespace
{

const std::align_val_t alignments[] = {std::align_val_t{1},     std::align_val_t{16},
                                       std::align_val_t{32},    std::align_val_t{4096},
                                       std::align_val_t{65536}, std::align_val_t{1 << 21}};
const std::size_t sizes[] = {0, 1, 8, 100, 4000, 70000, 3000000};
const std::size_t huge = static_cast<std::size_t>(PTRDIFF_MAX) + 1000;

std::size_t opaque(std::size_t size)
{
    return reinterpret_cast<std::size_t>(hide(reinterpret_cast<void *>(size)));
}

bool usable(void *p, std::size_t size, std::size_t alignment = 16)
{
    if (hide(p) == nullptr || reinterpret_cast<std::uintptr_t>(p) % alignment != 0)
        return false;
    std::memset(p, 0x5a, size);
    return true;
}

int plain()
{
    for (std::size_t size : sizes) {
        void *p = ::operator new(size), *q = ::operator new(size);
        CHECK(usable(p, size) && usable(q, size) && p != q);
        ::operator delete(p);
        ::operator delete(q, size);
        p = ::operator new[](size);
        q = ::operator new[](size);
        CHECK(usable(p, size) && usable(q, size) && p != q);
        ::operator delete[](p);
        ::operator delete[](q, size);
    }
    ::operator delete(hide(nullptr));
    ::operator delete[](hide(nullptr));
    ::operator delete(hide(nullptr), 100);
    ::operator delete[](hide(nullptr), 100);
    return PASS;
}

unsigned long size_mismatches()
{
    int (*get)(hak_stats_t *, std::size_t) = nullptr;
    void *symbol = dlsym(RTLD_DEFAULT, "hak_stats_get");
    hak_stats_t stats = {};

    std::memcpy(&get, &symbol, sizeof get);
    if (get == nullptr || get(&stats, sizeof stats) != 0)
        return ~0ul;
    return static_cast<unsigned long>(stats.size_mismatches);
}

// Of a block that could not have been asked for with the size said, and of no other.
int sizes_said()
{
    for (std::size_t size : {std::size_t{1000}, std::size_t{300000}, std::size_t{5000000}}) {
        unsigned long before = size_mismatches();
        if (before == ~0ul)
            return skip("not under the library");
        ::operator delete(hide(::operator new(size)));
        ::operator delete(hide(::operator new(size)), size);
        ::operator delete(hide(::operator new(size, std::align_val_t{256})), size, std::align_val_t{256});
        CHECK_EQ(before, size_mismatches());
        ::operator delete(hide(::operator new(size)), 2 * size);
        CHECK_EQ(before + 1, size_mismatches());
        ::operator delete[](hide(::operator new[](size)), size / 10);
        CHECK_EQ(before + 2, size_mismatches());
    }
    return PASS;
}

int without_exceptions()
{
    for (std::size_t size : sizes) {
        void *p = ::operator new(size, std::nothrow);
        void *q = ::operator new[](size, std::nothrow);
        CHECK(usable(p, size) && usable(q, size));
        ::operator delete(p, std::nothrow);
        ::operator delete[](q, std::nothrow);
    }
    CHECK(::operator new(opaque(huge), std::nothrow) == nullptr);
    CHECK(::operator new[](opaque(huge), std::nothrow) == nullptr);
    CHECK(::operator new (opaque(huge), std::align_val_t{64}, std::nothrow) == nullptr);
    CHECK(::operator new[](opaque(huge), std::align_val_t{64}, std::nothrow) == nullptr);
    return PASS;
}

int aligned()
{
    for (std::align_val_t alignment : alignments)
        for (std::size_t size : sizes) {
            auto a = static_cast<std::size_t>(alignment);
            void *p = ::operator new(size, alignment), *q = ::operator new(size, alignment);
            CHECK(usable(p, size, a) && usable(q, size, a));
            ::operator delete(p, alignment);
            ::operator delete(q, size, alignment);
            p = ::operator new[](size, alignment);
            q = ::operator new[](size, alignment);
            CHECK(usable(p, size, a) && usable(q, size, a));
            ::operator delete[](p, alignment);
            ::operator delete[](q, size, alignment);
            p = ::operator new(size, alignment, std::nothrow);
            q = ::operator new[](size, alignment, std::nothrow);
            CHECK(usable(p, size, a) && usable(q, size, a));
            ::operator delete(p, alignment, std::nothrow);
            ::operator delete[](q, alignment, std::nothrow);
        }
    return PASS;
}

template <typename Function> bool throws_bad_alloc(Function function)
{
    try {
        hide(function());
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

int bad_alloc()
{
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(huge)); }));
    CHECK(throws_bad_alloc([] { return ::operator new[](opaque(huge)); }));
    CHECK(throws_bad_alloc([] { return ::operator new (opaque(huge), std::align_val_t{64}); }));
    CHECK(throws_bad_alloc([] { return ::operator new[](opaque(huge), std::align_val_t{64}); }));
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(SIZE_MAX)); }));
    CHECK(
        throws_bad_alloc([] { return ::operator new (opaque(SIZE_MAX), std::align_val_t{4096}); }));
    CHECK(throws_bad_alloc([] { return new int[opaque(SIZE_MAX / 2)]; }));
    CHECK(throws_bad_alloc([] { return new std::string(opaque(PTRDIFF_MAX / 2), 'x'); }));
    return PASS;
}

// An exception leaves through frames with destructors, and the program goes on.
int unwinding()
{
    struct guard {
        int *count;
        std::vector<std::string> words{10, "some words that are longer than the short form"};
        explicit guard(int *c) : count(c)
        {
        }
        guard(const guard &) = delete;
        guard &operator=(const guard &) = delete;
        ~guard()
        {
            ++*count;
        }
    };
    int count = 0;

    for (int i = 0; i < 1000; i++)
        try {
            guard g(&count);
            std::vector<int> v;
            v.reserve(opaque(PTRDIFF_MAX / 8));
            hide(v.data());
        } catch (const std::bad_alloc &) {
        }
    CHECK_EQ(1000, count);
    return PASS;
}

int nr_calls;

void handler_that_gives_up()
{
    if (++nr_calls == 5)
        std::set_new_handler(nullptr);
}

int handler_runs_until_it_gives_up()
{
    std::set_new_handler(handler_that_gives_up);
    CHECK(throws_bad_alloc([] { return ::operator new(opaque(huge)); }));
    CHECK_EQ(5, nr_calls);
    nr_calls = 0;
    std::set_new_handler(handler_that_gives_up);
    CHECK(::operator new(opaque(huge), std::nothrow) == nullptr);
    CHECK_EQ(5, nr_calls);
    nr_calls = 0;
    std::set_new_handler(handler_that_gives_up);
    CHECK(throws_bad_alloc([] { return ::operator new[](opaque(huge), std::align_val_t{256}); }));
    CHECK_EQ(5, nr_calls);
    nr_calls = 0;
    std::set_new_handler(handler_that_gives_up);
    CHECK(::operator new (opaque(huge), std::align_val_t{256}, std::nothrow) == nullptr);
    CHECK_EQ(5, nr_calls);
    return PASS;
}

struct own_exception : std::bad_alloc {
};

void handler_that_throws()
{
    nr_calls++;
    throw own_exception();
}

int handler_throws()
{
    int caught = 0;

    std::set_new_handler(handler_that_throws);
    try {
        hide(::operator new(opaque(huge)));
    } catch (const own_exception &) {
        caught++;
    }
    try {
        hide(::operator new[](opaque(huge), std::align_val_t{64}));
    } catch (const own_exception &) {
        caught++;
    }
    CHECK_EQ(2, caught);
    CHECK(::operator new(opaque(huge), std::nothrow) == nullptr);
    CHECK(::operator new[](opaque(huge), std::align_val_t{64}, std::nothrow) == nullptr);
    CHECK_EQ(4, nr_calls);
    return PASS;
}

void *reserve_of_the_program;

void handler_that_frees()
{
    nr_calls++;
    std::free(reserve_of_the_program);
    reserve_of_the_program = nullptr;
    std::set_new_handler(nullptr);
}

// The handler frees the program's reserve: the request that failed then succeeds.
int handler_makes_room()
{
    rlimit tight = {0, 0};

    reserve_of_the_program = hide(std::malloc(64 << 20));
    std::memset(reserve_of_the_program, 1, 64 << 20);
    tight.rlim_cur = tight.rlim_max = proc_bytes("/proc/self/status", "VmSize:") + (16 << 20);
    setrlimit(RLIMIT_AS, &tight);
    std::set_new_handler(handler_that_frees);
    void *p = hide(::operator new(40 << 20));
    CHECK(p != nullptr);
    CHECK_EQ(1, nr_calls);
    ::operator delete(p);
    return PASS;
}

int out_of_memory_at_every_point()
{
    rlimit tight = {0, 0};
    std::vector<std::unique_ptr<std::string>> words;

    tight.rlim_cur = tight.rlim_max = proc_bytes("/proc/self/status", "VmSize:") + (8 << 20);
    setrlimit(RLIMIT_AS, &tight);
    for (int round = 0; round < 5; round++) {
        bool thrown = false;
        try {
            for (std::size_t i = 0; i < 10000000; i++)
                words.push_back(std::make_unique<std::string>(i % 3000, 'x'));
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        CHECK(thrown);
        for (std::size_t i = 0; i < words.size(); i++)
            CHECK_EQ(i % 3000, words[i]->size());
        words.clear();
        words.shrink_to_fit();
    }
    return PASS;
}

int errno_is_kept()
{
    for (std::size_t size = 1; size < 100000000; size = size * 4 + 1) {
        errno = 4242;
        void *p = ::operator new(size), *q = ::operator new[](size, std::align_val_t{64});
        CHECK_EQ(4242, errno);
        ::operator delete(p, size);
        ::operator delete[](q, size, std::align_val_t{64});
        CHECK_EQ(4242, errno);
    }
    return PASS;
}

void fill_containers(unsigned seed)
{
    std::map<std::string, std::vector<int>> map;
    uint64_t state = seed;

    for (int i = 0; i < 20000; i++) {
        uint64_t r = random_next(&state);
        auto &v = map["key " + std::to_string(r % 3000)];
        v.push_back(i);
        if (r >> 60 == 0)
            map.erase(map.begin());
    }
    std::size_t sum = 0;
    for (const auto &entry : map)
        sum += entry.second.size();
    if (sum == 0)
        std::abort();
}

int containers_in_threads()
{
    std::vector<std::thread> threads;

    for (unsigned i = 0; i < 4; i++)
        threads.emplace_back(fill_containers, i);
    for (auto &thread : threads)
        thread.join();
    return PASS;
}

thread_local std::map<int, std::string> of_thread;
thread_local std::unique_ptr<std::string> other_of_thread;

int thread_local_containers()
{
    for (int i = 0; i < 200; i++)
        std::thread([i] {
            of_thread[i] = "words of one thread, of more than a few letters";
            other_of_thread =
                std::make_unique<std::string>(static_cast<std::size_t>(i) * 1000, 'x');
        }).join();
    return PASS;
}

struct alignas(128) wide {
    char bytes[128];
};

int over_aligned_types()
{
    std::vector<wide> v(100);
    std::unique_ptr<wide[]> a(new wide[10]);

    CHECK_EQ(0, reinterpret_cast<std::uintptr_t>(v.data()) % 128);
    CHECK_EQ(0, reinterpret_cast<std::uintptr_t>(a.get()) % 128);
    v.resize(10000);
    CHECK_EQ(0, reinterpret_cast<std::uintptr_t>(v.data()) % 128);
    return PASS;
}

const test_case cases[] = {
    {"new and delete", plain, 0},
    {"sized delete", sizes_said, 0},
    {"new(nothrow)", without_exceptions, 0},
    {"aligned new and delete", aligned, 0},
    {"bad_alloc", bad_alloc, 0},
    {"bad_alloc unwinds", unwinding, 0},
    {"new_handler runs until it gives up", handler_runs_until_it_gives_up, 0},
    {"new_handler throws", handler_throws, 0},
    {"new_handler makes room", handler_makes_room, 0},
    {"bad_alloc when memory runs out", out_of_memory_at_every_point, 30},
    {"errno is kept", errno_is_kept, 0},
    {"containers in threads", containers_in_threads, 30},
    {"thread_local containers", thread_local_containers, 0},
    {"over-aligned types", over_aligned_types, 0},
};

} // namespace

int main(int argc, char **argv)
{
    return harness_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
