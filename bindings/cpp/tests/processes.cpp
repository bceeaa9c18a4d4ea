// How processes end: those of the examples, and one with a wait under way.
#include "programs.hpp"
#include "server.hpp"

#include <atomic>
#include <cstdio>
#include <iostream>

using namespace std::chrono_literals;

namespace {

/// The programs `follow`, in C++ and in C, which bindings/cpp/check has built.
std::vector<std::string> follow_programs() { return {from_environment("FOLLOW_CPP"), from_environment("FOLLOW_C")}; }

std::size_t lines(const std::string &text)
{
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

/// From a signal to the exit, which must be in order. The limit is for a busy machine with a debug library; the time is
/// printed, and should be below 0.2 s.
void ends_at_once(process &program, int signal, const char *when)
{
    const auto before = std::chrono::steady_clock::now();
    program.signal(signal);
    const int code = program.wait();
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - before);
    std::cout << "    from the signal to the exit, " << when << ": " << took.count() << " ms" << std::endl;
    if (code != 0)
        throw harness::failure{"exit code " + std::to_string(code) + ": " + program.err()};
    CHECK(took < 5s);
}

} // namespace

int run_part(std::string_view part, const std::string &uri)
{
    if (part == "exit-while-receiving") {
        // They outlive main, and leave nothing unreachable.
        static auto *buffer = new mongostream::buffer{16};
        static auto *worker = new mongostream::worker{mongostream::watch(uri).start(*buffer)};
        worker->wait_ready();
        std::thread{[] {
            for (auto &message : *buffer)
                std::cout << message.json() << std::endl;
        }}.detach();
        std::cout << "exits" << std::endl;
        return 0;
    }
    if (part == "exception-in-loop") {
        // The exception passes the buffer, its worker and a message that is held.
        try {
            mongostream::buffer buffer{16};
            const auto worker = mongostream::watch(uri).start(buffer);
            worker.wait_ready();
            throw std::runtime_error{"thrown"};
        } catch (const std::runtime_error &error) {
            std::cout << error.what() << std::endl;
        }
        return 0;
    }
    return 2;
}

TEST(a_process_ends_while_a_receive_waits)
{
    process program{{own_program(), "--exit-while-receiving", shared_uri()}};
    const auto code = program.wait();
    WAIT_UNTIL(program.out() == "exits\n");
    CHECK_EQ(program.err(), "");
    CHECK_EQ(code, 0);
}

TEST(an_exception_passes_by_and_releases_everything)
{
    process program{{own_program(), "--exception-in-loop", shared_uri()}};
    CHECK_EQ(program.wait(), 0);
    WAIT_UNTIL(program.out() == "thrown\n");
    CHECK_EQ(program.err(), "");
}

TEST(follow_prints_changes_and_goes_on_after_a_restart)
{
    for (const auto &follow : follow_programs()) {
        place there;
        const std::string file = from_environment("MONGOSTREAM_SCRATCH") + "/" + there.database() + ".token";
        const std::vector<std::string> command{follow, there.uri(), there.database(), "c", "checkpoint_file=" + file};
        {
            process program{command};
            WAIT_UNTIL(program.err() == "ready\n");
            there.insert_ids(1, 3);
            WAIT_UNTIL(lines(program.out()) == 3);
            CHECK_HAS(program.out(), R"("_id":1)");
            ends_at_once(program, SIGTERM, "idle, SIGTERM");
            CHECK_EQ(program.err(), "ready\n");
        }
        there.insert_ids(4, 4);
        process again{command};
        WAIT_UNTIL(lines(again.out()) == 1);
        CHECK_HAS(again.out(), R"("_id":4)");
        ends_at_once(again, SIGINT, "idle");
        std::remove(file.c_str());
    }
}

TEST(follow_ends_at_once_in_full_stream)
{
    for (const auto &follow : follow_programs()) {
        place there;
        // What comes to a whole database comes from its collections.
        process program{{follow, there.uri(), there.database(), "-"}};
        WAIT_UNTIL(program.err() == "ready\n");
        std::atomic<bool> stop{false};
        std::thread writer{[&] {
            for (int id = 0; !stop; id += 1000)
                there.insert_ids(id, id + 999);
        }};
        try {
            WAIT_UNTIL(lines(program.out()) > 2000);
            ends_at_once(program, SIGINT, "in full stream");
        } catch (...) {
            stop = true;
            writer.join();
            throw;
        }
        stop = true;
        writer.join();
        const std::string printed = program.out();
        CHECK_EQ(printed.back(), '\n');
    }
}

TEST(follow_ends_at_once_while_the_server_is_frozen)
{
    own_server server;
    for (const auto &follow : follow_programs()) {
        place there{server.uri()};
        const std::string file = from_environment("MONGOSTREAM_SCRATCH") + "/" + there.database() + ".token";
        process program{{follow, there.uri(), there.database(), "c", "checkpoint_file=" + file}};
        WAIT_UNTIL(program.err() == "ready\n");
        there.insert_ids(1, 1);
        WAIT_UNTIL(lines(program.out()) == 1);
        server.freeze();
        ends_at_once(program, SIGINT, "with a frozen server");
        server.thaw();
        std::remove(file.c_str());
    }
}

TEST(follow_tells_what_is_wrong_by_its_exit_code)
{
    for (const auto &follow : follow_programs()) {
        const auto ends = [&](std::vector<std::string> arguments, int code, const char *complaint) {
            arguments.insert(arguments.begin(), follow);
            process program{arguments};
            CHECK_EQ(program.wait(), code);
            harness::wait_until(__FILE__, __LINE__, complaint,
                                [&] { return program.err().find(complaint) != std::string::npos; });
            CHECK_EQ(program.out(), "");
        };
        ends({}, 2, "usage: ");
        ends({shared_uri(), "shop"}, 2, "usage: ");
        ends({shared_uri(), "shop", "orders", "snapshot"}, 2, "usage: ");
        ends({"nonsense", "shop", "orders"}, 1, "MS_ERR_ARGUMENT");
        ends({shared_uri(), "shop", "orders", "nonsense=1"}, 1, "nonsense");
        ends({shared_uri(), "shop", "orders", R"(pipeline=[{"$nonsense":1}])"}, 1, "MS_ERR_SERVER");
    }
}
