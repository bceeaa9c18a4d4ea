// What a loop in C++ costs beside the same loop in C: processor time of the consumer's thread for each message.
//
//     g++ -std=c++17 -O2 -pthread -Ibindings/cpp/tests bindings/cpp/cost.cpp $(pkg-config --cflags --libs mongostream) -o cost
//     ./cost URI [MESSAGES]
//
// The library should be an optimised one: in a debug build it hides every difference. Runs of both kinds take turns.
#include <mongostream.hpp>

#include "server.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <vector>

namespace {

double processor_seconds()
{
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::size_t in_c(ms_buffer *buffer)
{
    std::size_t length = 0;
    ms_message *message = nullptr;
    ms_error *error = nullptr;
    while (ms_buffer_recv_message(buffer, -1, &message, &error) == MS_OK) {
        std::size_t size = 0;
        ms_message_json(message, &size);
        length += size;
        ms_message_ack(message);
        ms_message_free(message);
    }
    return length;
}

std::size_t in_cpp(mongostream::buffer &buffer)
{
    std::size_t length = 0;
    for (auto &message : buffer) {
        length += message.json().size();
        message.ack();
    }
    return length;
}

/// Nanoseconds for each message of a full buffer.
double measure(const mongostream::watch &watch, std::size_t messages, bool cpp)
{
    mongostream::buffer buffer{messages};
    const auto worker = watch.start(buffer);
    while (buffer.len() < messages)
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    buffer.close();
    const double before = processor_seconds();
    const std::size_t length = cpp ? in_cpp(buffer) : in_c(buffer.native_handle());
    const double took = processor_seconds() - before;
    if (length == 0)
        std::abort();
    return took * 1e9 / static_cast<double>(messages);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    const std::size_t messages = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 50000;
    place there{argv[1]};
    std::string token;
    {
        mongostream::buffer buffer{1};
        const auto worker = there.watch().start(buffer);
        worker.wait_ready();
        token = worker.resume_token().value();
    }
    for (std::size_t first = 0; first < messages; first += 1000)
        there.insert_ids(static_cast<std::int32_t>(first), static_cast<std::int32_t>(first + 999));
    const auto watch = there.watch().option("start_after", token);
    std::vector<double> c;
    std::vector<double> cpp;
    for (int round = 0; round < 15; ++round) {
        c.push_back(measure(watch, messages, false));
        cpp.push_back(measure(watch, messages, true));
    }
    const auto median = [](std::vector<double> &all) {
        std::sort(all.begin(), all.end());
        return all[all.size() / 2];
    };
    const double in_c_ns = median(c);
    const double in_cpp_ns = median(cpp);
    std::cout << "a message, median of " << c.size() << " runs: " << in_c_ns << " ns in C, " << in_cpp_ns
              << " ns in C++ (" << (in_cpp_ns / in_c_ns - 1) * 100 << " % more)\n";
}
