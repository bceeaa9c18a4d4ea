// What goes wrong, and what an error says about it.
#include "harness.hpp"
#include "server.hpp"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace std::string_view_literals;

TEST(an_error_is_a_runtime_error_and_says_everything)
{
    place there;
    mongostream::buffer buffer{16};
    const auto good = there.watch().option("name", "good").start(buffer);
    good.wait_ready();
    const auto bad = there.watch().option("name", "bad").option("pipeline", R"([{"$nonsense":1}])").start(buffer);
    const auto thrown = CHECK_THROWS(MS_ERR_SERVER, bad.wait_ready());
    CHECK_EQ(thrown.status_name(), "MS_ERR_SERVER"sv);
    CHECK_EQ(thrown.server_code(), 40324);
    CHECK(!thrown.is_retriable());
    CHECK_EQ(thrown.worker().value(), "bad"sv);
    CHECK_HAS(thrown.what(), "$nonsense");
    CHECK_EQ(bad.state(), MS_WORKER_FAILED);

    // It comes through the buffer as well, once, and the other worker goes on.
    std::string caught;
    try {
        for (auto &message : buffer)
            caught = message.json();
    } catch (const std::runtime_error &error) {
        caught = error.what();
        CHECK_EQ(dynamic_cast<const mongostream::error &>(error).worker().value(), "bad"sv);
    }
    CHECK_EQ(caught, thrown.what());
    there.insert_ids(1, 1);
    CHECK_EQ(next(buffer).worker(), "good"sv);

    // A copy lives on its own, also the name in it.
    std::optional<mongostream::error> original{thrown};
    const mongostream::error copy = *original;
    original.reset();
    CHECK_EQ(copy.worker().value(), "bad"sv);
    CHECK_EQ(copy.what(), caught);
}

TEST(a_server_that_cannot_be_reached_is_a_retriable_error)
{
    mongostream::buffer buffer{16};
    const auto worker = mongostream::watch("mongodb://user:secret@127.0.0.1:1/?serverSelectionTimeoutMS=100")
                            .database("shop")
                            .option("retry_ms", 0)
                            .start(buffer);
    const auto thrown = CHECK_THROWS(MS_ERR_CONNECT, static_cast<void>(buffer.recv_for(harness::deadline)));
    CHECK(thrown.is_retriable());
    CHECK_EQ(thrown.server_code(), 0);
    CHECK_EQ(thrown.worker().value(), "shop"sv);
    CHECK_HAS(thrown.what(), "127.0.0.1:1");
    CHECK(std::string_view{thrown.what()}.find("secret") == std::string_view::npos);
    CHECK(buffer.recv().is_closed());
}

TEST(a_server_that_is_none_is_an_error)
{
    // A socket that listens and never speaks.
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listen(listener, 8) == 0);
    sockaddr_in address{};
    socklen_t size = sizeof address;
    CHECK(getsockname(listener, reinterpret_cast<sockaddr *>(&address), &size) == 0);
    const std::string uri = "mongodb://127.0.0.1:" + std::to_string(ntohs(address.sin_port))
                            + "/?serverSelectionTimeoutMS=200&directConnection=true";
    mongostream::buffer buffer{16};
    {
        const auto worker = mongostream::watch(uri).start(buffer);
        CHECK_THROWS(MS_ERR_CONNECT, worker.wait_ready());
    }
    close(listener);
}

TEST(a_bad_argument_is_told_at_once)
{
    mongostream::buffer buffer{16};
    const auto thrown = CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(mongostream::watch("http://x").start(buffer)));
    CHECK(!thrown.worker());
    CHECK(!thrown.is_retriable());
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(mongostream::watch("").start(buffer)));
    CHECK_THROWS(MS_ERR_ARGUMENT, mongostream::buffer{0});
    CHECK_THROWS(MS_ERR_ARGUMENT, (mongostream::buffer{0, 1}));
    CHECK_THROWS(MS_ERR_ARGUMENT, (mongostream::buffer{1, 0}));

    mongostream::watch watch{"mongodb://127.0.0.1:1"};
    CHECK_HAS(CHECK_THROWS(MS_ERR_ARGUMENT, watch.option("await_m", 1)).what(), "await_ms");
    CHECK_HAS(CHECK_THROWS(MS_ERR_ARGUMENT, watch.option("await_ms", "soon")).what(), "await_ms");
    CHECK_HAS(CHECK_THROWS(MS_ERR_ARGUMENT, watch.option("snapshot", "perhaps")).what(), "initial");
    // What only shows together shows at the start.
    watch.option("start_at_time", 1).option("resume_after", R"({"_data":"82"})");
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(watch.start(buffer)));
}

TEST(a_null_pointer_or_a_nul_is_an_error_and_not_a_crash)
{
    const char *null = nullptr;
    const std::string nul{"a\0b", 3};
    mongostream::watch watch{"mongodb://127.0.0.1:1"};
    CHECK_THROWS(MS_ERR_ARGUMENT, mongostream::watch{null});
    CHECK_THROWS(MS_ERR_ARGUMENT, mongostream::watch{nul});
    CHECK_THROWS(MS_ERR_ARGUMENT, watch.database(null));
    CHECK_THROWS(MS_ERR_ARGUMENT, watch.collection(nul));
    CHECK_THROWS(MS_ERR_ARGUMENT, watch.option("name", null));
    CHECK_THROWS(MS_ERR_ARGUMENT, watch.option(null, "x"));
    CHECK_HAS(CHECK_THROWS(MS_ERR_ARGUMENT, watch.option("name", nul)).what(), "the value of name has a NUL inside");
    CHECK_THROWS(MS_ERR_ARGUMENT, watch.option(nul, "x"));
    CHECK_THROWS(MS_ERR_ARGUMENT, watch.checkpoint_store(nullptr));
}

TEST(a_closed_buffer_takes_no_worker)
{
    place there;
    mongostream::buffer buffer{16};
    buffer.close();
    CHECK_THROWS(MS_ERR_STATE, static_cast<void>(there.watch().start(buffer)));
}

TEST(a_value_of_an_option_is_written_as_the_library_reads_it)
{
    const auto written = [](const auto &value) {
        std::string out;
        mongostream::detail::append(out, value, false);
        return out;
    };
    CHECK_EQ(written("text"), "text");
    CHECK_EQ(written(std::string{"a\"b"}), "a\"b");
    CHECK_EQ(written("view"sv), "view");
    CHECK_EQ(written(std::filesystem::path{"/tmp/x"}), "/tmp/x");
    CHECK_EQ(written(true), "true");
    CHECK_EQ(written(false), "false");
    CHECK_EQ(written(-1), "-1");
    CHECK_EQ(written(std::uint64_t{18446744073709551615U}), "18446744073709551615");
    CHECK_EQ(written(30s), "30000");
    CHECK_EQ(written(std::vector<std::string>{"a", "b\"\\\n"}), R"(["a","b\"\\\u000a"])");
    CHECK_EQ(written(std::vector<int>{}), "[]");
    CHECK_EQ(written(std::vector<bool>{true, false}), "[true,false]");
    CHECK_EQ(written(std::map<std::string, std::vector<int>>{{"a", {1, 2}}, {"b", {}}}), R"({"a":[1,2],"b":[]})");
    CHECK_EQ(written(std::map<std::string, int>{}), "{}");
    const char *array[] = {"x", "y"};
    CHECK_EQ(written(array), R"(["x","y"])");
}

TEST(options_of_every_kind_reach_the_library)
{
    place there;
    mongostream::buffer buffer{16};
    std::map<std::string, std::map<std::string, std::string>> match{{"$match", {{"operationType", "insert"}}}};
    mongostream::watch watch{there.uri()};
    watch.database(there.database()).option("updated_paths", true).option("retry_ms", 30s).option("batch_size", 100);
    watch.option("namespaces", {"c", "d_*"}).option("pipeline", std::vector{match});
    const auto worker = watch.start(buffer);
    worker.wait_ready();
    CHECK_EQ(worker.name(), there.database() + ".{c,d_*}");
    there.insert(bson{}.int32("_id", 0), "other");
    there.insert_ids(1, 1);
    there.update(1, bson{}.int32("a", 1));
    there.insert(bson{}.int32("_id", 2), "d_1");
    CHECK_EQ(next(buffer).document_id(), "1"sv);
    const auto second = next(buffer);
    CHECK_EQ(second.operation(), "insert"sv);
    CHECK_EQ(second.ns(), there.database() + ".d_1");
}

TEST(a_watch_serves_for_several_workers_and_its_clone_is_its_own)
{
    place there;
    mongostream::buffer buffer{16};
    auto watch = there.watch().option("name", "first");
    auto clone = watch.clone().option("name", "second");
    const auto one = watch.start(buffer);
    const auto two = clone.start(buffer);
    watch.option("name", "third");
    const auto three = watch.start(buffer);
    CHECK_EQ(one.name(), "first"sv);
    CHECK_EQ(two.name(), "second"sv);
    CHECK_EQ(three.name(), "third"sv);
    two.wait_ready();
}

TEST(a_library_that_does_not_fit_is_refused)
{
    using mongostream::detail::fits;
    static_assert(fits(1002, 1002) && fits(1002, 1003));
    static_assert(!fits(1002, 1001) && !fits(1002, 2002) && !fits(1002, 1001002));
    static_assert(fits(1002003, 1002003) && fits(1002003, 1003000));
    static_assert(!fits(1002003, 1002002) && !fits(1002003, 2002003));
    CHECK_EQ(mongostream::version_number(), std::uint32_t{MS_VERSION_NUMBER});
    CHECK_EQ(mongostream::version(), std::to_string(MS_VERSION_MAJOR) + '.' + std::to_string(MS_VERSION_MINOR) + '.'
                                         + std::to_string(MS_VERSION_PATCH));
}

TEST(the_table_of_options_and_the_figures_are_there)
{
    CHECK_HAS(mongostream::options_describe(), "\"checkpoint_file\"");
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().option("name", "figures").start(buffer);
    worker.wait_ready();
    CHECK_EQ(worker.state(), MS_WORKER_STREAMING);
    CHECK_HAS(buffer.stats(), "\"name\":\"figures\"");
    CHECK_HAS(buffer.stats(), "\"capacity\":16");
    const std::string metrics = buffer.metrics();
    CHECK_HAS(metrics, "figures");
    CHECK_EQ(metrics.substr(metrics.size() - 6), "# EOF\n");
}
