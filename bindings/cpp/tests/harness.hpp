// A tiny test harness: tests register themselves, run one after the other, and fail by an exception.
#pragma once

#include <chrono>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

namespace harness {

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct test {
    const char *name;
    void (*run)();
};

/// Every test of the program, in the order of the files and their lines.
inline std::vector<test> &tests()
{
    static std::vector<test> all;
    return all;
}

struct registration {
    registration(const char *name, void (*run)()) { tests().push_back({name, run}); }
};

[[noreturn]] inline void fail(const char *file, int line, const std::string &what)
{
    throw failure{std::string{file} + ':' + std::to_string(line) + ": " + what};
}

template <class T> std::string shown(const T &value)
{
    std::ostringstream out;
    out << std::boolalpha << value;
    std::string text = out.str();
    if (text.size() > 2000)
        text = text.substr(0, 2000) + "...";
    return text;
}

/// A value that outlives what it came from: a view may be of a temporary message.
template <class T> auto kept(const T &value)
{
    if constexpr (std::is_convertible_v<const T &, std::string_view>)
        return std::string{std::string_view{value}};
    else
        return value;
}

/// How long anything that must happen may take. Machines of a CI are slow, and sanitizers slower.
inline constexpr std::chrono::seconds deadline{30};

/// Waits for a condition: no test sleeps for a fixed time.
template <class Condition> void wait_until(const char *file, int line, const char *what, Condition condition)
{
    const auto end = std::chrono::steady_clock::now() + deadline;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            fail(file, line, std::string{"never came true: "} + what);
        std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
}

} // namespace harness

#define TEST(name)                                                                                                     \
    static void name();                                                                                                \
    static const harness::registration registered_##name{#name, &name};                                                \
    static void name()

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            harness::fail(__FILE__, __LINE__, #condition);                                                             \
    } while (false)

#define CHECK_EQ(left, right)                                                                                          \
    do {                                                                                                               \
        const auto left_value = harness::kept(left);                                                                         \
        const auto right_value = harness::kept(right);                                                                       \
        if (!(left_value == right_value))                                                                              \
            harness::fail(__FILE__, __LINE__,                                                                          \
                          std::string{#left " == " #right ": "} + harness::shown(left_value) + " and "                 \
                              + harness::shown(right_value));                                                          \
    } while (false)

#define CHECK_HAS(text, part)                                                                                          \
    do {                                                                                                               \
        const std::string whole_text{text};                                                                            \
        if (whole_text.find(part) == std::string::npos)                                                                \
            harness::fail(__FILE__, __LINE__, std::string{#text " has "} + std::string{part} + ": "                    \
                                                  + harness::shown(whole_text));                                       \
    } while (false)

/// Runs what must throw a mongostream::error with a status, and gives the error.
#define CHECK_THROWS(wanted, ...)                                                                                      \
    [&]() -> mongostream::error {                                                                                      \
        try {                                                                                                          \
            __VA_ARGS__;                                                                                               \
        } catch (const mongostream::error &error_thrown) {                                                                   \
            if (error_thrown.status() != (wanted))                                                                           \
                harness::fail(__FILE__, __LINE__, std::string{"threw "} + std::string{error_thrown.status_name()} + ": "     \
                                                      + error_thrown.what());                                                \
            return error_thrown;                                                                                             \
        }                                                                                                              \
        harness::fail(__FILE__, __LINE__, "threw nothing: " #__VA_ARGS__);                                             \
    }()

#define WAIT_UNTIL(condition) harness::wait_until(__FILE__, __LINE__, #condition, [&] { return (condition); })
