// Replaces `new`. In a file of its own, so that the compiler does not look into it.
#include "allocations.hpp"

#include <cstdlib>
#include <new>

static thread_local std::size_t count = 0;

std::size_t allocations() { return count; }

void *operator new(std::size_t size)
{
    ++count;
    if (void *memory = std::malloc(size == 0 ? 1 : size))
        return memory;
    throw std::bad_alloc{};
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
