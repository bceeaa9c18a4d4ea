// Processes that tests start: the examples, parts of this program, and servers of their own.
#pragma once

#include "harness.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/// This program's path.
inline std::string &own_program()
{
    static std::string path;
    return path;
}

/// A part of this program that runs as a process: see processes.cpp.
int run_part(std::string_view part, const std::string &uri);

inline std::string from_environment(const char *name)
{
    const char *value = std::getenv(name);
    if (value == nullptr)
        throw harness::failure{std::string{name} + " is not set: bindings/cpp/check sets it"};
    return value;
}

/// A process, with what it has printed so far. It is killed when this goes.
class process {
public:
    explicit process(const std::vector<std::string> &command)
    {
        int in[2];
        int out[2];
        int err[2];
        if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
            throw harness::failure{"no pipe"};
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        posix_spawn_file_actions_adddup2(&actions, err[1], 2);
        std::vector<char *> arguments;
        for (const auto &argument : command)
            arguments.push_back(const_cast<char *>(argument.c_str()));
        arguments.push_back(nullptr);
        const int failed = posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        close(in[0]);
        close(out[1]);
        close(err[1]);
        input_ = in[1];
        if (failed != 0)
            throw harness::failure{"cannot start " + command[0]};
        out_.thread = std::thread{[this, fd = out[0]] { out_.fill(fd); }};
        err_.thread = std::thread{[this, fd = err[0]] { err_.fill(fd); }};
    }
    process(const process &) = delete;
    process &operator=(const process &) = delete;
    ~process()
    {
        if (!ended_) {
            ::kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
        if (input_ >= 0)
            close(input_);
        out_.thread.join();
        err_.thread.join();
    }

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] std::string out() { return out_.so_far(); }
    [[nodiscard]] std::string err() { return err_.so_far(); }
    void signal(int number) const { ::kill(pid_, number); }
    /// Lets it read the end of its input.
    void end_input()
    {
        close(input_);
        input_ = -1;
    }

    /// Waits for its end, and gives its exit code, or the negative number of the signal that killed it.
    int wait()
    {
        const auto end = std::chrono::steady_clock::now() + harness::deadline;
        int status = 0;
        while (waitpid(pid_, &status, WNOHANG) == 0) {
            if (std::chrono::steady_clock::now() > end)
                throw harness::failure{"a process does not end; it wrote: " + err()};
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
        ended_ = true;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

private:
    struct stream {
        std::mutex mutex;
        std::string text;
        std::thread thread;

        void fill(int fd)
        {
            char piece[65536];
            for (ssize_t n = 0; (n = read(fd, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR);) {
                const std::lock_guard<std::mutex> lock{mutex};
                if (n > 0)
                    text.append(piece, static_cast<std::size_t>(n));
            }
            close(fd);
        }
        std::string so_far()
        {
            const std::lock_guard<std::mutex> lock{mutex};
            return text;
        }
    };
    pid_t pid_ = 0;
    int input_ = -1;
    bool ended_ = false;
    stream out_;
    stream err_;
};

/// A server that a test may freeze.
class own_server {
public:
    own_server() : ground_{{from_environment("MONGOSTREAM_GROUND"), "--until-eof"}}
    {
        harness::wait_until(__FILE__, __LINE__, "the server has started",
                            [this] { return ground_.out().find('\n') != std::string::npos; });
        const std::string printed = ground_.out();
        uri_ = printed.substr(0, printed.find('\n'));
    }
    own_server(const own_server &) = delete;
    own_server &operator=(const own_server &) = delete;
    ~own_server()
    {
        signal_servers(SIGCONT);
        ground_.end_input();
        try {
            ground_.wait();
        } catch (const harness::failure &) {
            ground_.signal(SIGKILL);
        }
    }

    [[nodiscard]] const std::string &uri() const { return uri_; }
    void freeze() { CHECK(signal_servers(SIGSTOP) > 0); }
    void thaw() { signal_servers(SIGCONT); }

private:
    int signal_servers(int number)
    {
        int count = 0;
        for (const auto &entry : std::filesystem::directory_iterator{"/proc"}) {
            const std::string name = entry.path().filename();
            if (name.find_first_not_of("0123456789") != std::string::npos)
                continue;
            std::ifstream file{entry.path() / "stat"};
            std::string line;
            std::getline(file, line);
            // PID (NAME) STATE PARENT
            std::istringstream rest{line.substr(std::min(line.size(), line.rfind(')') + 1))};
            std::string state;
            pid_t parent = 0;
            if (rest >> state >> parent && parent == ground_.pid()) {
                ::kill(static_cast<pid_t>(std::stoi(name)), number);
                ++count;
            }
        }
        return count;
    }
    process ground_;
    std::string uri_;
};
