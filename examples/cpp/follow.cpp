/*
 * Prints the changes of a collection as lines of JSON, until Ctrl-C.
 *
 *     g++ -std=c++17 -pthread examples/cpp/follow.cpp $(pkg-config --cflags --libs mongostream) -o follow
 *     ./follow mongodb://localhost:27017 shop orders checkpoint_file=orders.token
 *
 * "-" stands for no collection (the whole database) or no database (the whole deployment). Options are those of
 * docs/OPTIONS.md. Messages go to standard output, everything else to standard error. It ends with 0 after SIGINT or
 * SIGTERM, with 1 after a failure, with 2 if it is called wrongly.
 */
#include <mongostream.hpp>

#include <chrono>
#include <csignal>
#include <iostream>
#include <string_view>
#include <thread>

#include <pthread.h>
#include <unistd.h>

using namespace std::chrono_literals;

/* Closes a buffer when a signal comes. It waits in a thread of its own, because a signal handler may not do that. */
class close_on_signal {
public:
    explicit close_on_signal(mongostream::buffer &buffer)
    {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        /* For every thread that is started from here on, so only sigwait gets them. */
        pthread_sigmask(SIG_BLOCK, &signals, nullptr);
        waiter_ = std::thread{[signals, &buffer] {
            int signal = 0;
            sigwait(&signals, &signal);
            buffer.close();
        }};
    }
    close_on_signal(const close_on_signal &) = delete;
    close_on_signal &operator=(const close_on_signal &) = delete;
    ~close_on_signal()
    {
        /* Only the waiter can get it. */
        kill(getpid(), SIGTERM);
        waiter_.join();
    }

private:
    std::thread waiter_;
};

static mongostream::watch what(int argc, char **argv)
{
    mongostream::watch watch{argv[1]};
    if (const std::string_view database = argv[2]; database != "-")
        watch.database(database);
    if (const std::string_view collection = argv[3]; collection != "-")
        watch.collection(collection);
    for (int i = 4; i < argc; ++i) {
        const std::string_view option = argv[i];
        const auto equals = option.find('=');
        watch.option(option.substr(0, equals), option.substr(equals + 1));
    }
    return watch;
}

static bool is_usage(int argc, char **argv)
{
    for (int i = 4; i < argc; ++i)
        if (std::string_view{argv[i]}.find('=') == std::string_view::npos)
            return false;
    return argc >= 4;
}

int main(int argc, char **argv)
{
    if (!is_usage(argc, argv)) {
        std::cerr << "usage: follow URI DATABASE COLLECTION [option=value ...]\n";
        return 2;
    }
    try {
        mongostream::buffer buffer{1024};
        const close_on_signal closer{buffer};
        auto worker = what(argc, argv).start(buffer);
        if (worker.wait_ready())
            std::cerr << "ready\n";
        for (auto &message : buffer) {
            std::cout << message.json() << '\n' << std::flush;
            if (!std::cout) {
                std::cerr << "follow: cannot write to standard output\n";
                return 1;
            }
            message.ack();
        }
        /* Saves the checkpoint. Only a store that hangs would make it wait. */
        if (!worker.join_for(5s)) {
            std::cerr << "follow: the checkpoint is not saved yet\n";
            return 1;
        }
        return 0;
    } catch (const mongostream::error &error) {
        std::cerr << "follow: " << error.what() << " (" << error.status_name() << ")\n";
        return 1;
    }
}
