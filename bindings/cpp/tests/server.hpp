// A real server for tests: just enough BSON and wire protocol (MongoDB specifications, "OP_MSG") to write to it.
#pragma once

#include <mongostream.hpp>

#include "harness.hpp"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

/// Builds a BSON document. Keys keep their order.
class bson {
public:
    bson &text(std::string_view key, std::string_view value) { return header('\x02', key).string(value); }
    bson &real(std::string_view key, double value) { return header('\x01', key).number(value); }
    bson &document(std::string_view key, const bson &value) { return raw('\x03', key, value.bytes()); }
    bson &array(std::string_view key, const bson &value) { return raw('\x04', key, value.bytes()); }
    bson &boolean(std::string_view key, bool value) { return raw('\x08', key, std::string(1, value ? '\1' : '\0')); }
    bson &int32(std::string_view key, std::int32_t value) { return header('\x10', key).number(value); }
    bson &int64(std::string_view key, std::int64_t value) { return header('\x12', key).number(value); }
    /// An element of any type, with the bytes of its value.
    bson &raw(char type, std::string_view key, std::string_view value)
    {
        header(type, key);
        inside_ += value;
        return *this;
    }

    [[nodiscard]] std::string bytes() const
    {
        std::string all = little(static_cast<std::int32_t>(inside_.size() + 5));
        all += inside_;
        all += '\0';
        return all;
    }

    template <class T> static std::string little(T value)
    {
        std::string out(sizeof value, '\0');
        std::memcpy(out.data(), &value, sizeof value);
        return out;
    }

private:
    bson &header(char type, std::string_view key)
    {
        inside_ += type;
        inside_ += key;
        inside_ += '\0';
        return *this;
    }
    template <class T> bson &number(T value)
    {
        inside_ += little(value);
        return *this;
    }
    bson &string(std::string_view value)
    {
        inside_ += little(static_cast<std::int32_t>(value.size() + 1));
        inside_ += value;
        inside_ += '\0';
        return *this;
    }
    std::string inside_;
};

/// A connection to a server.
class connection {
public:
    explicit connection(std::string_view uri)
    {
        // mongodb://HOST:PORT/...
        std::string_view place = uri.substr(std::string_view{"mongodb://"}.size());
        place = place.substr(0, place.find_first_of(",/?"));
        const auto colon = place.find(':');
        const std::string host{place.substr(0, colon)};
        const std::string port{place.substr(colon + 1)};
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        addrinfo *found = nullptr;
        if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0)
            throw harness::failure{"cannot resolve " + host};
        socket_ = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
        const bool connected = ::connect(socket_, found->ai_addr, found->ai_addrlen) == 0;
        freeaddrinfo(found);
        if (!connected)
            throw harness::failure{"cannot connect to " + host + ':' + port};
    }
    connection(const connection &) = delete;
    connection &operator=(const connection &) = delete;
    ~connection() { close(socket_); }

    /// Runs a command, which must succeed, and gives the reply.
    std::string run(const std::string &database, bson command)
    {
        const std::string body = command.text("$db", database).bytes();
        constexpr std::int32_t op_msg = 2013;
        std::string request = bson::little(static_cast<std::int32_t>(16 + 4 + 1 + body.size()));
        request += bson::little(std::int32_t{1}) + bson::little(std::int32_t{0}) + bson::little(op_msg);
        request += bson::little(std::int32_t{0}) + '\0' + body;
        for (std::size_t sent = 0; sent < request.size();) {
            const ssize_t n = send(socket_, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
            if (n <= 0)
                throw harness::failure{"the server takes nothing"};
            sent += static_cast<std::size_t>(n);
        }
        const std::string length = receive(4);
        std::int32_t size = 0;
        std::memcpy(&size, length.data(), 4);
        std::string reply = receive(static_cast<std::size_t>(size) - 4).substr(12 + 4 + 1);
        const std::string good = bson{}.real("ok", 1).bytes().substr(4);
        if (reply.find(good.substr(0, good.size() - 1)) == std::string::npos
            || reply.find("writeErrors") != std::string::npos)
            throw harness::failure{"the server refused: " + reply};
        return reply;
    }

private:
    std::string receive(std::size_t count)
    {
        std::string got(count, '\0');
        for (std::size_t have = 0; have < count;) {
            const ssize_t n = recv(socket_, got.data() + have, count - have, 0);
            if (n <= 0)
                throw harness::failure{"the server ended the connection"};
            have += static_cast<std::size_t>(n);
        }
        return got;
    }
    int socket_;
};

/// The URI of the server that all tests share.
inline std::string &shared_uri()
{
    static std::string uri;
    return uri;
}

/// A database of a test's own, with a collection c.
class place {
public:
    explicit place(const std::string &uri = shared_uri()) : uri_{uri}, connection_{uri}, database_{fresh_name()}
    {
        connection_.run(database_, bson{}.text("create", "c"));
    }

    [[nodiscard]] const std::string &uri() const { return uri_; }
    [[nodiscard]] const std::string &database() const { return database_; }
    [[nodiscard]] std::string ns() const { return database_ + ".c"; }

    /// Follows the collection.
    [[nodiscard]] mongostream::watch watch() const
    {
        return mongostream::watch(uri_).database(database_).collection("c");
    }

    void insert(const bson &document, const std::string &collection = "c")
    {
        connection_.run(database_, bson{}.text("insert", collection).array("documents", bson{}.document("0", document)));
    }

    /// Documents with the ids from first to last, in one command.
    void insert_ids(std::int32_t first, std::int32_t last)
    {
        bson documents;
        for (std::int32_t id = first; id <= last; ++id)
            documents.document(std::to_string(id - first), bson{}.int32("_id", id));
        connection_.run(database_, bson{}.text("insert", "c").array("documents", documents));
    }

    void update(std::int32_t id, const bson &set)
    {
        const bson each = bson{}.document("q", bson{}.int32("_id", id)).document("u", bson{}.document("$set", set));
        connection_.run(database_, bson{}.text("update", "c").array("updates", bson{}.document("0", each)));
    }

    void remove(std::int32_t id)
    {
        const bson each = bson{}.document("q", bson{}.int32("_id", id)).int32("limit", 1);
        connection_.run(database_, bson{}.text("delete", "c").array("deletes", bson{}.document("0", each)));
    }

private:
    static std::string fresh_name()
    {
        static std::atomic<int> count{0};
        return "cpp_" + std::to_string(getpid()) + '_' + std::to_string(++count);
    }
    std::string uri_;
    connection connection_;
    std::string database_;
};

/// The next message, which must come.
inline mongostream::message next(mongostream::buffer &buffer)
{
    auto received = buffer.recv_for(harness::deadline);
    if (!received)
        throw harness::failure{std::string{"no message: "} + ms_status_name(received.status())};
    return *std::move(received);
}
