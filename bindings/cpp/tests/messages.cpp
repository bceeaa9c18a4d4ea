// What a message says, and how long it lives.
#include "harness.hpp"
#include "server.hpp"

#include <cmath>
#include <optional>
#include <string>
#include <vector>

using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

/// One of every type that a server stores, in the names of the specification (bsonspec.org).
bson every_type()
{
    const std::string oid = "\x65\x2f\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09"s.substr(0, 12);
    bson all;
    all.int32("_id", 1);
    all.real("double", 0.1).real("minus_zero", -0.0).real("infinity", HUGE_VAL);
    all.text("string", "text").text("empty", "");
    all.document("document", bson{}.int32("a", 1)).array("array", bson{}.int32("0", 1).text("1", "b"));
    all.raw('\x05', "binary", bson::little(std::int32_t{3}) + '\x80' + "\x01\x00\xff"s);
    all.raw('\x05', "uuid", bson::little(std::int32_t{16}) + '\x04' + std::string(16, '\x11'));
    all.raw('\x07', "oid", oid);
    all.boolean("true", true).boolean("false", false);
    all.raw('\x09', "date", bson::little(std::int64_t{1732264946123}));
    all.raw('\x0a', "null", "");
    all.raw('\x0b', "regex", "^a\\d\0i\0"s);
    all.raw('\x0d', "code", bson::little(std::int32_t{9}) + "return 1\0"s);
    all.int32("int32", -5);
    all.raw('\x11', "timestamp", bson::little(std::uint64_t{7U} << 32U | 3U));
    all.int64("int64", 9007199254740993);
    all.raw('\x13', "decimal", bson::little(std::uint64_t{15}) + bson::little(std::uint64_t{0x303e000000000000}));
    all.raw('\xff', "minkey", "");
    all.raw('\x7f', "maxkey", "");
    return all;
}

} // namespace

TEST(a_value_of_every_type_arrives_unchanged_in_bson_and_json)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().option("json", "canonical").start(buffer);
    worker.wait_ready();
    there.insert(every_type());
    const auto message = next(buffer);
    const mongostream::bytes event = message.bson();
    const std::string_view raw{reinterpret_cast<const char *>(event.data()), event.size()};
    CHECK(raw.find(every_type().bytes()) != std::string_view::npos);
    for (const auto part :
         {R"("double":{"$numberDouble":"0.1"})"sv, R"("minus_zero":{"$numberDouble":"-0.0"})"sv,
          R"("infinity":{"$numberDouble":"Infinity"})"sv, R"("string":"text","empty":"")"sv,
          R"("document":{"a":{"$numberInt":"1"}})"sv, R"("array":[{"$numberInt":"1"},"b"])"sv,
          R"("binary":{"$binary":{"base64":"AQD/","subType":"80"}})"sv, R"("subType":"04")"sv,
          R"("oid":{"$oid":"652f00010203040506070809"})"sv, R"("true":true,"false":false)"sv,
          R"("date":{"$date":{"$numberLong":"1732264946123"}})"sv, R"("null":null)"sv,
          R"("regex":{"$regularExpression":{"pattern":"^a\\d","options":"i"}})"sv, R"("code":{"$code":"return 1"})"sv,
          R"("int32":{"$numberInt":"-5"})"sv, R"("timestamp":{"$timestamp":{"t":7,"i":3}})"sv,
          R"("int64":{"$numberLong":"9007199254740993"})"sv, R"("decimal":{"$numberDecimal":"1.5"})"sv,
          R"("minkey":{"$minKey":1})"sv, R"("maxkey":{"$maxKey":1})"sv})
        CHECK_HAS(message.json(), part);
}

TEST(odd_text_arrives_unchanged_on_one_line)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    // Line separators of Unicode, two more that some take for the end of a line, what JSON escapes, an emoji, the last
    // code point, and no text at all.
    const std::string odd = "a\xe2\x80\xa8" "b\xe2\x80\xa9" "c\xc2\x85" "d\x0b\x0c" "e\n\r\t\"\\/\x01\x7f\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf";
    there.insert(bson{}.int32("_id", 1).text("odd", odd).text("k\xe2\x80\xa8\n", "").text("", "empty key"));
    const auto message = next(buffer);
    const std::string_view json = message.json();
    for (const char end : {'\n', '\r', '\v', '\f', '\0'})
        CHECK(json.find(end) == std::string_view::npos);
    CHECK_HAS(json, "a\xe2\x80\xa8" "b\xe2\x80\xa9" "c\xc2\x85" "d");
    CHECK_HAS(json, "\\n\\r\\t\\\"\\\\/\\u0001\x7f\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"");
    CHECK_HAS(json, "\"k\xe2\x80\xa8\\n\":\"\"");
    CHECK_HAS(json, R"("":"empty key")");
    CHECK_EQ(json.data()[json.size()], '\0');
}

TEST(a_message_near_the_largest_arrives_whole)
{
    place there;
    mongostream::buffer buffer{16, 1024}; // It is larger than that, and passes alone.
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    // A document may have 16 MiB; the event has some bytes more.
    const std::string large(16 * 1024 * 1024 - 100, 'x');
    there.insert(bson{}.int32("_id", 1).text("large", large));
    const auto message = next(buffer);
    CHECK(message.json().find(large) != std::string_view::npos);
    CHECK(message.bson().size() > large.size());
}

TEST(a_message_tells_what_has_changed_and_where)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().option("name", "orders").option("full_document", "updateLookup").start(buffer);
    worker.wait_ready();
    there.insert(bson{}.text("_id", "a/1").int32("n", 1));
    there.insert_ids(7, 7);
    there.update(7, bson{}.int32("state", 2).document("deep", bson{}.int32("er", 3)));
    there.remove(7);

    const auto inserted = next(buffer);
    CHECK_EQ(inserted.operation(), "insert"sv);
    CHECK_EQ(inserted.ns(), there.ns());
    CHECK_EQ(inserted.document_id(), "a/1"sv);
    CHECK_EQ(inserted.updated_paths(), "[]"sv);
    CHECK_EQ(inserted.worker(), "orders"sv);
    CHECK(inserted.cluster_time().has_value());
    CHECK(inserted.cluster_time()->seconds > 1700000000);
    CHECK(inserted.resume_token().has_value());
    CHECK_HAS(*inserted.resume_token(), R"({"_data":")");
    CHECK_HAS(*inserted.position(), *inserted.resume_token());

    CHECK_EQ(next(buffer).document_id(), "7"sv);
    const auto updated = next(buffer);
    CHECK_EQ(updated.operation(), "update"sv);
    CHECK_HAS(updated.updated_paths(), "\"state\"");
    CHECK_HAS(updated.updated_paths(), "\"deep.er\"");
    CHECK(*updated.cluster_time() != *inserted.cluster_time());
    CHECK_EQ(next(buffer).operation(), "delete"sv);
}

TEST(a_document_of_a_snapshot_has_no_time)
{
    place there;
    there.insert_ids(1, 1);
    mongostream::buffer buffer{16};
    const auto worker = there.watch().option("snapshot", "always").start(buffer);
    const auto message = next(buffer);
    CHECK_EQ(message.operation(), "snapshot"sv);
    CHECK_HAS(message.position().value(), R"("snapshot":{)");
    CHECK(!message.cluster_time());
    CHECK_EQ(message.document_id(), "1"sv);
}

TEST(messages_outlive_buffer_and_worker)
{
    place there;
    std::vector<mongostream::message> kept;
    std::optional<mongostream::batch> batch;
    {
        mongostream::buffer buffer{1024};
        const auto worker = there.watch().start(buffer);
        worker.wait_ready();
        there.insert_ids(1, 20);
        for (auto &message : buffer) {
            kept.push_back(std::move(message));
            if (kept.size() == 10)
                break;
        }
        batch = *buffer.recv_batch(10);
    }
    for (std::size_t i = 0; i < kept.size(); ++i) {
        CHECK_EQ(kept[i].document_id(), std::to_string(i + 1));
        CHECK_HAS(kept[i].json(), "\"OperationType\":\"insert\"");
        kept[i].ack();
        kept[i].ack();
    }
    CHECK(batch->size() >= 1);
    CHECK_EQ((*batch)[0].document_id(), "11"sv);
    batch->ack();
}

TEST(a_clone_is_the_same_message_and_one_ack_counts_for_both)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 2);
    auto first = next(buffer);
    const mongostream::message clone = first.clone();
    const std::string token{first.resume_token().value()};
    first = mongostream::message{};
    CHECK_EQ(clone.document_id(), "1"sv);
    CHECK(worker.resume_token() != token);
    clone.ack();
    WAIT_UNTIL(worker.resume_token() == token);

    const auto batch = *buffer.recv_batch(10);
    const mongostream::message of_batch = batch[0].clone();
    CHECK_EQ(of_batch.json(), batch[0].json());
}

TEST(a_view_stands_for_any_message)
{
    place there;
    mongostream::buffer buffer{16};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 2);
    const auto id = [](mongostream::message_view message) { return std::string{message.document_id()}; };
    const auto message = next(buffer);
    CHECK_EQ(id(message), "1");
    const auto batch = *buffer.recv_batch(10);
    mongostream::message_view view = batch[0];
    CHECK_EQ(id(view), "2");
    view = message;
    CHECK_EQ(id(view), "1");
}

TEST(what_was_moved_from_is_empty_and_its_calls_are_errors)
{
    place there;
    mongostream::buffer buffer{16};
    auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 3);
    auto message = next(buffer);
    auto batch = *buffer.recv_batch(10);

    const auto message_moved = std::move(message);
    const auto batch_moved = std::move(batch);
    auto worker_moved = std::move(worker);
    auto buffer_moved = std::move(buffer);
    CHECK_EQ(message_moved.document_id(), "1"sv);
    CHECK(batch_moved.size() >= 1);
    CHECK_EQ(worker_moved.name(), there.ns());

    // NOLINTBEGIN(bugprone-use-after-move): it is what is tested
    CHECK(!message);
    CHECK_EQ(message.json(), ""sv);
    CHECK_EQ(message.bson().size(), 0U);
    CHECK_EQ(message.operation(), ""sv);
    CHECK_EQ(message.ns(), ""sv);
    CHECK_EQ(message.document_id(), ""sv);
    CHECK_EQ(message.updated_paths(), ""sv);
    CHECK_EQ(message.worker(), ""sv);
    CHECK(!message.resume_token());
    CHECK(!message.position());
    CHECK(!message.cluster_time());
    CHECK(!message.clone());
    message.ack();
    CHECK(!batch);
    CHECK_EQ(batch.size(), 0U);
    CHECK_EQ(batch.json_lines(), ""sv);
    batch.ack();
    CHECK(batch.begin() == batch.end());
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(batch[0]));
    CHECK_EQ(worker.name(), ""sv);
    CHECK_EQ(worker.state(), MS_WORKER_STOPPED);
    CHECK(!worker.resume_token());
    worker.stop();
    CHECK_THROWS(MS_ERR_ARGUMENT, worker.wait_ready());
    CHECK_THROWS(MS_ERR_ARGUMENT, worker.join());
    CHECK_EQ(buffer.len(), 0U);
    CHECK_EQ(buffer.fd(), -1);
    CHECK_EQ(buffer.stats(), "");
    CHECK_EQ(buffer.metrics(), "");
    buffer.close();
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(buffer.try_recv()));
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(buffer.try_recv_batch(1)));
    CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(there.watch().start(buffer)));
    // NOLINTEND(bugprone-use-after-move)

    // A move into an object releases what it had.
    message = *buffer_moved.try_recv();
    buffer_moved = mongostream::buffer{1};
    worker_moved = there.watch().start(buffer_moved);
    worker_moved.wait_ready();
    there.insert_ids(4, 4);
    message = next(buffer_moved);
    CHECK_EQ(message.document_id(), "4"sv);
}

TEST(a_batch_has_its_messages_in_order_and_as_lines)
{
    place there;
    mongostream::buffer buffer{1024};
    const auto worker = there.watch().start(buffer);
    worker.wait_ready();
    there.insert_ids(1, 50);
    int id = 0;
    std::string last;
    while (id < 50) {
        const auto batch = *buffer.recv_batch(20);
        CHECK(batch.size() >= 1 && batch.size() <= 20);
        CHECK(!batch.empty());
        std::string lines;
        std::size_t count = 0;
        for (const auto message : batch) {
            CHECK_EQ(message.document_id(), std::to_string(++id));
            CHECK_EQ(message.json(), batch[count++].json());
            lines += message.json();
            lines += '\n';
            last = message.resume_token().value();
        }
        CHECK_EQ(count, batch.size());
        CHECK_EQ(batch.json_lines(), lines);
        CHECK_HAS(CHECK_THROWS(MS_ERR_ARGUMENT, static_cast<void>(batch[batch.size()])).what(), "has no message");
        batch.ack();
    }
    CHECK_EQ(id, 50);
    WAIT_UNTIL(worker.resume_token() == last);
}
