// Counts what is asked of `new`.
#pragma once

#include <cstddef>

/// How often this thread has asked for memory by `new`.
std::size_t allocations();
