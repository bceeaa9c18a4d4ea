// Checkpoints, and stores of one's own.
#include "harness.hpp"
#include "programs.hpp"
#include "server.hpp"

#include <cstdio>
#include <map>
#include <mutex>

#include <unistd.h>

using namespace std::chrono_literals;
using namespace std::string_view_literals;

namespace {

/// A store in memory that can be told to fail.
class memory_store : public mongostream::checkpoint_store {
public:
    std::optional<std::string> load(std::string_view name) override
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        ++loads_;
        if (loads_to_try_again_-- > 0)
            throw mongostream::try_again{"not now"};
        if (refuses_loads_)
            throw 42;
        return find(name);
    }

    void save(std::string_view name, std::string_view text) override
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        if (refuses_saves_)
            throw std::runtime_error{"no room"};
        texts_[std::string{name}] = text;
    }

    std::optional<std::string> text(std::string_view name)
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        return find(name);
    }

    int loads()
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        return loads_;
    }

    void load_again(int times)
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        loads_to_try_again_ = times;
    }

    void refuse_loads()
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        refuses_loads_ = true;
    }

    void refuse_saves()
    {
        const std::lock_guard<std::mutex> lock{mutex_};
        refuses_saves_ = true;
    }

private:
    std::optional<std::string> find(std::string_view name) const
    {
        const auto found = texts_.find(std::string{name});
        return found == texts_.end() ? std::nullopt : std::optional{found->second};
    }

    std::mutex mutex_;
    std::map<std::string, std::string> texts_;
    int loads_ = 0;
    int loads_to_try_again_ = 0;
    bool refuses_loads_ = false;
    bool refuses_saves_ = false;
};

} // namespace

TEST(after_a_restart_the_first_message_that_was_not_acked_comes)
{
    place there;
    const std::string file = from_environment("MONGOSTREAM_SCRATCH") + "/" + there.database() + ".token";
    const auto watch = there.watch().option("checkpoint_file", file);
    {
        mongostream::buffer buffer{16};
        auto worker = watch.start(buffer);
        worker.wait_ready();
        there.insert_ids(1, 4);
        for (int id = 1; id <= 4; ++id) {
            auto message = next(buffer);
            CHECK_EQ(message.document_id(), std::to_string(id));
            // 3 is acked and comes again, because 2 is not.
            if (id != 2 && id != 4)
                message.ack();
        }
        mongostream::buffer other{16};
        const auto in_use = CHECK_THROWS(MS_ERR_IN_USE, static_cast<void>(watch.start(other)));
        CHECK(in_use.is_retriable());
        buffer.close();
        worker.join();
    }
    mongostream::buffer buffer{16};
    const auto worker = watch.start(buffer);
    for (int id = 2; id <= 4; ++id)
        CHECK_EQ(next(buffer).document_id(), std::to_string(id));
    std::remove(file.c_str());
}

TEST(a_resume_token_is_a_place_to_go_on)
{
    place there;
    std::string token;
    {
        mongostream::buffer buffer{16};
        const auto worker = there.watch().start(buffer);
        worker.wait_ready();
        there.insert_ids(1, 2);
        const auto first = next(buffer);
        first.ack();
        token = first.resume_token().value();
        WAIT_UNTIL(worker.resume_token() == token);
    }
    mongostream::buffer buffer{16};
    const auto worker = there.watch().option("start_after", token).start(buffer);
    CHECK_EQ(next(buffer).document_id(), "2"sv);
}

TEST(a_store_of_ones_own_keeps_the_position_and_is_let_go)
{
    place there;
    auto store = std::make_shared<memory_store>();
    const std::weak_ptr<memory_store> weak = store;
    {
        mongostream::buffer buffer{16};
        auto worker = there.watch().checkpoint_store(store).start(buffer);
        worker.wait_ready();
        CHECK(store->text(there.ns()).has_value());
        there.insert_ids(1, 2);
        next(buffer).ack();
        buffer.close();
        worker.join();
    }
    {
        mongostream::buffer buffer{16};
        auto watch = there.watch().checkpoint_store(store).option("checkpoint_name", there.ns());
        auto clone = watch.clone();
        auto worker = clone.start(buffer);
        store.reset();
        CHECK_EQ(next(buffer).document_id(), "2"sv);
        CHECK(!weak.expired());
        buffer.close();
        worker.join();
    }
    WAIT_UNTIL(weak.expired());
}

TEST(a_store_that_wants_to_be_asked_again_is_asked_again)
{
    place there;
    auto store = std::make_shared<memory_store>();
    store->load_again(2);
    mongostream::buffer buffer{16};
    const auto worker = there.watch().checkpoint_store(store).start(buffer);
    CHECK_EQ(worker.wait_ready_for(harness::deadline), MS_OK);
    CHECK_EQ(store->loads(), 3);
}

TEST(what_a_store_throws_does_not_get_into_the_library)
{
    place there;
    auto store = std::make_shared<memory_store>();
    store->refuse_loads();
    mongostream::buffer buffer{16};
    const auto worker = there.watch().checkpoint_store(store).start(buffer);
    CHECK_THROWS(MS_ERR_CHECKPOINT, worker.wait_ready());
}

TEST(a_store_that_does_not_save_shows_at_join)
{
    place there;
    auto store = std::make_shared<memory_store>();
    mongostream::buffer buffer{16};
    auto worker = there.watch().checkpoint_store(store).option("checkpoint_ms", 600s).start(buffer);
    worker.wait_ready();
    store->refuse_saves();
    there.insert_ids(1, 1);
    next(buffer).ack();
    buffer.close();
    CHECK_THROWS(MS_ERR_CHECKPOINT, worker.join());
}

TEST(a_checkpoint_with_a_nul_is_refused_and_not_cut)
{
    place there;
    auto store = std::make_shared<memory_store>();
    {
        mongostream::buffer buffer{16};
        auto worker = there.watch().checkpoint_store(store).start(buffer);
        worker.wait_ready();
        buffer.close();
        worker.join();
    }
    store->save(there.ns(), store->text(there.ns()).value() + std::string(1, '\0'));
    mongostream::buffer buffer{16};
    const auto worker = there.watch().checkpoint_store(store).start(buffer);
    CHECK_THROWS(MS_ERR_CHECKPOINT, worker.wait_ready());
}
