// Waits, their limits and their ends; several consumers; the cost of a message.
#include "allocations.hpp"
#include "harness.hpp"
#include "server.hpp"

#include <atomic>
#include <cmath>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include <poll.h>

using namespace std::chrono_literals;
using namespace std::string_view_literals;

TEST(a_time_limit_is_rounded_up_and_never_for_ever)
{
    using mongostream::detail::milliseconds;
    static_assert(milliseconds(0s) == 0);
    static_assert(milliseconds(-1ms) == 0);
    static_assert(milliseconds(1ns) == 1);
    static_assert(milliseconds(1ms) == 1);
    static_assert(milliseconds(1001us) == 2);
    static_assert(milliseconds(2h) == 7200000);
    static_assert(milliseconds(std::chrono::duration<float>{0.25F}) == 250);
    static_assert(milliseconds(std::chrono::duration<double, std::milli>{0.1}) == 1);
    constexpr auto longest = std::numeric_limits<std::int64_t>::max();
    static_assert(milliseconds(std::chrono::milliseconds::max()) == longest);
    static_assert(milliseconds(std::chrono::hours::max()) == longest);
    static_assert(milliseconds(std::chrono::duration<double>{1e300}) == longest);
    static_assert(milliseconds(std::chrono::milliseconds::min()) == 0);
    static_assert(milliseconds(std::chrono::nanoseconds::max()) == 9223372036855);
    static_assert(milliseconds(std::chrono::duration<unsigned char, std::ratio<1>>{200}) == 200000);
    CHECK_EQ(milliseconds(std::chrono::duration<double>{std::nan("")}), 0);
}

TEST(without_a_message_a_receive_says_timeout_until_the_buffer_is_closed)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    CHECK(buffer.try_recv().is_timeout());
    const auto before = std::chrono::steady_clock::now();
    const auto none = buffer.recv_for(30ms);
    CHECK(std::chrono::steady_clock::now() - before >= 30ms);
    CHECK(!none && none.is_timeout() && !none.is_closed());
    CHECK_EQ(none.status(), MS_TIMEOUT);
    CHECK(!*none);
    CHECK(buffer.recv_for(-1s).is_timeout());
    CHECK(buffer.try_recv_batch(5).is_timeout());
    CHECK(buffer.recv_batch_for(5, 1us).is_timeout());
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(buffer.try_recv_batch(0)));
    buffer.close();
    const auto closed = buffer.recv();
    CHECK(!closed && closed.is_closed() && !closed.is_timeout());
    CHECK(buffer.recv_for(std::chrono::hours::max()).is_closed());
    CHECK(buffer.recv_batch(5).is_closed());
    for (auto &message : buffer)
        CHECK_EQ(message.json(), "none comes");
}

TEST(close_from_another_thread_ends_a_loop_after_what_is_queued)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    std::atomic<int> seen{0};
    std::thread consumer{[&] {
        for (auto &message : buffer)
            seen += !message.json().empty();
    }};
    there.insert_ids(1, 3);
    WAIT_UNTIL(seen == 3);
    buffer.close();
    consumer.join();
    CHECK_EQ(seen.load(), 3);
}

TEST(what_is_queued_at_close_still_comes)
{
    place there;
    mongostream::buffer buffer{16};
    auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 5);
    WAIT_UNTIL(buffer.len() == 5);
    buffer.close();
    int count = 0;
    while (auto message = buffer.recv()) {
        message->ack();
        ++count;
    }
    CHECK_EQ(count, 5);
    worker.join();
    CHECK_EQ(worker.state(), MS_WORKER_STOPPED);
}

TEST(without_a_running_worker_a_buffer_is_closed)
{
    place there;
    mongostream::buffer buffer{16};
    auto worker = there.watch().start(buffer);
    CHECK(worker.wait_ready());
    worker.stop();
    CHECK(buffer.recv().is_closed());
    CHECK(worker.join_for(harness::deadline));
    // And it opens again with the next one.
    const auto second = there.watch().start(buffer);
    CHECK(second.wait_ready());
    there.insert_ids(1, 1);
    CHECK_EQ(next(buffer).document_id(), "1"sv);
}

TEST(a_worker_that_is_stopped_before_it_is_ready_says_so)
{
    mongostream::buffer buffer{16};
    // Nobody answers there, and connecting takes longer than this test.
    auto worker = mongostream::watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=600000").start(buffer);
    CHECK_EQ(worker.wait_ready_for(1ms), MS_TIMEOUT);
    CHECK_EQ(worker.state(), MS_WORKER_STARTING);
    CHECK(!worker.resume_token());
    CHECK(!worker.join_for(1ms));
    worker.stop();
    CHECK(!worker.wait_ready());
    CHECK_EQ(worker.wait_ready_for(1s), MS_CLOSED);
    worker.join();
}

TEST(two_consumers_share_the_messages_of_two_workers)
{
    place first;
    place second;
    mongostream::buffer buffer{64};
    const auto one = first.watch().start(buffer);
    const auto two = second.watch().start(buffer);
    one.wait_ready();
    two.wait_ready();
    constexpr int each = 500;
    constexpr std::size_t all = 1000;
    std::atomic<int> received{0};
    std::vector<std::set<std::string>> seen(2);
    std::vector<std::thread> consumers;
    for (auto &own : seen)
        consumers.emplace_back([&buffer, &received, &own] {
            for (auto &message : buffer) {
                own.insert(std::string{message.ns()} + '/' + std::string{message.document_id()});
                message.ack();
                ++received;
            }
        });
    first.insert_ids(1, each);
    second.insert_ids(1, each);
    WAIT_UNTIL(received == static_cast<int>(all));
    buffer.close();
    for (auto &consumer : consumers)
        consumer.join();
    CHECK_EQ(seen[0].size() + seen[1].size(), all);
    seen[0].merge(seen[1]);
    CHECK_EQ(seen[0].size(), all);
}

TEST(two_buffers_at_once_do_not_mix)
{
    place first;
    place second;
    mongostream::buffer one{16};
    mongostream::buffer two{16};
    const auto worker_one = first.watch().start(one);
    const auto worker_two = second.watch().start(two);
    worker_one.wait_ready();
    worker_two.wait_ready();
    first.insert_ids(1, 1);
    second.insert_ids(2, 2);
    CHECK_EQ(next(one).document_id(), "1"sv);
    CHECK_EQ(next(two).document_id(), "2"sv);
    one.close();
    second.insert_ids(3, 3);
    CHECK_EQ(next(two).document_id(), "3"sv);
}

TEST(a_buffer_is_readable_while_a_receive_would_not_wait)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    pollfd descriptor{buffer.fd(), POLLIN, 0};
    CHECK_EQ(poll(&descriptor, 1, 0), 0);
    there.insert_ids(1, 1);
    CHECK_EQ(poll(&descriptor, 1, 30000), 1);
    CHECK(static_cast<bool>(buffer.try_recv()));
    CHECK_EQ(poll(&descriptor, 1, 0), 0);
    buffer.close();
    CHECK_EQ(poll(&descriptor, 1, 30000), 1);
}

TEST(a_loop_asks_for_no_memory_of_its_own)
{
    place there;
    mongostream::buffer buffer{4096};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 3000);
    WAIT_UNTIL(buffer.len() == 3000);
    std::size_t length = 0;
    int count = 0;
    const auto before = allocations();
    for (auto &message : buffer) {
        length += message.json().size() + message.bson().size() + message.document_id().size() + message.ns().size()
                  + message.operation().size() + message.resume_token()->size() + message.cluster_time()->increment;
        message.ack();
        if (++count == 1000)
            break;
    }
    while (count < 2000) {
        const auto message = buffer.recv_for(1s);
        length += message->json().size();
        ++count;
    }
    while (count < 3000) {
        const auto batch = *buffer.try_recv_batch(100);
        for (const auto message : batch)
            length += message.json().size();
        length += batch.json_lines().size();
        batch.ack();
        count += static_cast<int>(batch.size());
    }
    CHECK_EQ(allocations(), before);
    CHECK(length > 0);
}
