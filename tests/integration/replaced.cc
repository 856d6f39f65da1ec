// SPDX-License-Identifier: MIT
//
// A program that replaces four operators by malloc and free, as many do, and leaves the others to the library: among them the
// sized deletes, which C++14 calls. Its blocks are of malloc there, and all is well. Run by links.sh with secure mode.
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

void *operator new(std::size_t size)
{
    void *p = std::malloc(size ? size : 1);

    if (p == nullptr)
        throw std::bad_alloc();
    return p;
}

void operator delete(void *p) noexcept
{
    std::free(p);
}

namespace
{

struct alignas(64) wide {
    char bytes[64];
};

template <typename T> T *hide(T *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

} // namespace

int main()
{
    std::vector<std::string> words(1000, "a string longer than the short form is");
    std::string *word = hide(new std::string("one more, of more than a few letters"));

    delete word;
    for (std::size_t size = 0; size < 3000; size += 7)
        ::operator delete(hide(::operator new(size)), size);
    ::operator delete(hide(::operator new(100, std::nothrow)));
    delete hide(new (std::nothrow) int(1));
    delete[] hide(new std::string[10]);
    delete hide(new wide);
    words.clear();
    words.shrink_to_fit();
    return 0;
}
