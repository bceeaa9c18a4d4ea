// The log callback of the process. Each test switches it off again.
#include "harness.hpp"
#include "server.hpp"

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>

namespace {

struct switch_off {
    switch_off() = default;
    switch_off(const switch_off &) = delete;
    switch_off &operator=(const switch_off &) = delete;
    ~switch_off()
    {
        try {
            mongostream::log_off();
        } catch (const mongostream::error &error) {
            std::cerr << error.what() << std::endl;
            std::abort();
        }
    }
};

} // namespace

TEST(lines_of_the_log_come_with_their_worker_and_level)
{
    const switch_off at_the_end;
    std::mutex mutex;
    std::string lines;
    mongostream::log_set(
        [&](ms_log_level level, std::string_view worker, std::string_view message) {
            const std::lock_guard<std::mutex> lock{mutex};
            lines += std::to_string(level) + ' ' + std::string{worker} + ' ' + std::string{message} + '\n';
        },
        MS_LOG_INFO);
    {
        place there;
        mongostream::buffer buffer{16};
        auto worker = there.watch().option("name", "logged").start(buffer);
        worker.wait_ready();
        worker.stop();
        worker.join();
    }
    mongostream::log_off(); // From here on nobody else uses the lines.
    CHECK_HAS(lines, "3 logged ");
}

TEST(what_a_log_callback_throws_is_dropped_and_it_cannot_replace_itself)
{
    const switch_off at_the_end;
    std::atomic<int> lines{0};
    std::atomic<int> refused{0};
    mongostream::log_set(
        [&](ms_log_level, std::string_view, std::string_view) {
            try {
                mongostream::log_off();
            } catch (const mongostream::error &error) {
                refused += error.status() == MS_ERR_STATE;
            }
            ++lines;
            throw 42;
        },
        MS_LOG_DEBUG);
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 1);
    CHECK(static_cast<bool>(next(buffer)));
    CHECK(lines > 0);
    mongostream::log_off();
    CHECK_EQ(refused.load(), lines.load());
}

TEST(a_log_callback_that_is_being_replaced_does_not_wait_for_its_own_end)
{
    const switch_off at_the_end;
    std::atomic<bool> called{false};
    std::atomic<bool> refused{false};
    mongostream::log_set(
        [&](ms_log_level, std::string_view, std::string_view) {
            if (called.exchange(true))
                return;
            // Until the other thread replaces this callback, and so waits for it.
            auto &setting = mongostream::detail::the_log().setting;
            WAIT_UNTIL(!setting.try_lock() || (setting.unlock(), false));
            try {
                mongostream::log_off();
            } catch (const mongostream::error &error) {
                refused = error.status() == MS_ERR_STATE;
            }
        },
        MS_LOG_DEBUG);
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    WAIT_UNTIL(called.load());
    mongostream::log_off();
    CHECK(refused.load());
}

TEST(a_log_callback_lives_until_it_is_replaced)
{
    const switch_off at_the_end;
    auto used = std::make_shared<int>(0);
    const std::weak_ptr<int> weak = used;
    mongostream::log_set([used = std::move(used)](ms_log_level, std::string_view, std::string_view) {}, MS_LOG_INFO);
    CHECK(!weak.expired());
    CHECK_THROWS(MS_ERR_ARGUMENT, mongostream::log_set([](auto &&...) {}, static_cast<ms_log_level>(99)));
    CHECK(!weak.expired());
    mongostream::log_set([](auto &&...) {}, MS_LOG_ERROR);
    CHECK(weak.expired());
}
