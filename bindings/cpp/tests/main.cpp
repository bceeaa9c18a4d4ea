// Runs the tests: tests URI [PART OF A NAME ...]
#include "harness.hpp"
#include "programs.hpp"
#include "server.hpp"

#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <mutex>

namespace {

/// Ends the process if a test hangs.
class watchdog {
public:
    explicit watchdog(const char *name)
        : thread_{[this, name] {
              std::unique_lock<std::mutex> lock{mutex_};
              if (!ended_.wait_for(lock, 4 * harness::deadline, [this] { return done_; })) {
                  std::cerr << "FAILED " << name << ": it hangs" << std::endl;
                  std::_Exit(1);
              }
          }}
    {
    }
    watchdog(const watchdog &) = delete;
    watchdog &operator=(const watchdog &) = delete;
    ~watchdog()
    {
        {
            const std::lock_guard<std::mutex> lock{mutex_};
            done_ = true;
        }
        ended_.notify_one();
        thread_.join();
    }

private:
    std::mutex mutex_;
    std::condition_variable ended_;
    bool done_ = false;
    std::thread thread_;
};

bool is_chosen(std::string_view name, int argc, char **argv)
{
    for (int i = 2; i < argc; ++i)
        if (name.find(argv[i]) != std::string_view::npos)
            return true;
    return argc <= 2;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 2) {
        std::cerr << "usage: tests URI [PART OF A NAME ...]\n";
        return 2;
    }
    // What a test runs as a process of its own.
    if (const std::string_view part = argv[1]; part.rfind("--", 0) == 0)
        return run_part(part.substr(2), argc > 2 ? argv[2] : "");
    shared_uri() = argv[1];
    own_program() = argv[0];
    int good = 0;
    int bad = 0;
    for (const auto &test : harness::tests()) {
        if (!is_chosen(test.name, argc, argv))
            continue;
        const watchdog dog{test.name};
        try {
            test.run();
            ++good;
        } catch (const std::exception &error) {
            ++bad;
            std::cerr << "FAILED " << test.name << ": " << error.what() << std::endl;
        }
    }
    std::cout << good << " tests passed, " << bad << " failed" << std::endl;
    return bad == 0 && good > 0 ? 0 : 1;
}
