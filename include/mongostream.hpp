/*
 * mongostream for C++17 and later: MongoDB change streams as a plain blocking queue of JSON messages.
 *
 *     mongostream::buffer buffer{1024};
 *     auto worker = mongostream::watch("mongodb://localhost:27017").database("shop").collection("orders")
 *                       .option("checkpoint_file", "orders.token").start(buffer);
 *     worker.wait_ready();                          // from here on every change will be delivered
 *     for (auto &message : buffer) {
 *         std::cout << message.json() << '\n';      // your work
 *         message.ack();                            // done: after a restart it does not come again
 *     }
 *
 * Everything here is inline and stands on mongostream.h: link with `pkg-config --libs mongostream`.
 *
 * Rules for everything:
 *  - What goes wrong is thrown as mongostream::error. Whatever is not noexcept may also throw std::bad_alloc.
 *  - Objects own what they are: they are moved, not copied, and release it when they go. No destructor waits.
 *    message_view is the exception: it borrows.
 *  - A std::string_view that is returned is borrowed. It lives as long as the object that gave it, and a NUL follows
 *    its end. It is empty where C has "". Where C has NULL for "there is none", the type is std::optional.
 *  - An object that was moved from holds nothing. Its accessors give empty values, and its calls throw
 *    MS_ERR_ARGUMENT.
 *  - Text is UTF-8. Text that you pass is copied. A NUL inside it, or a null pointer, is MS_ERR_ARGUMENT.
 *  - A time limit is any std::chrono duration. It is rounded up to milliseconds. Zero, and less, does not wait.
 *  - Every call may be made from any thread at the same time. These may not: to move, assign or destroy an object that
 *    is in use, and to use one watch or one batch from two threads.
 *  - Statuses, states and levels are the enums of mongostream.h (MS_ERR_AUTH, MS_WORKER_STREAMING, MS_LOG_WARN).
 */
#ifndef MONGOSTREAM_HPP
#define MONGOSTREAM_HPP

#if __cplusplus < 201703L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 201703L)
#error "mongostream.hpp needs C++17 or later"
#endif

#include <mongostream.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

/* What returns bytes has another name for the linker where they are a std::span: both may be in one program. */
#if defined(__cpp_lib_span) && defined(__GNUC__)
#define MONGOSTREAM_SPAN_TAG __attribute__((abi_tag("span")))
#else
#define MONGOSTREAM_SPAN_TAG
#endif

#if defined(__SANITIZE_THREAD__)
#define MONGOSTREAM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MONGOSTREAM_TSAN 1
#endif
#endif
#if defined(MONGOSTREAM_TSAN)
extern "C" void __tsan_acquire(void *address); // NOLINT(bugprone-reserved-identifier): its name
extern "C" void __tsan_release(void *address); // NOLINT(bugprone-reserved-identifier)
#endif

namespace mongostream {

#if defined(__cpp_lib_span)
/** Borrowed bytes: std::span where there is one (C++20). */
using bytes = std::span<const std::uint8_t>;
#else
/** Borrowed bytes: a pointer and a length, with the names of std::span, which it is in C++20. */
class bytes {
public:
    constexpr bytes() noexcept = default;
    constexpr bytes(const std::uint8_t *data, std::size_t size) noexcept : data_{data}, size_{size} {}

    [[nodiscard]] constexpr const std::uint8_t *data() const noexcept { return data_; }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
    [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] constexpr const std::uint8_t *begin() const noexcept { return data_; }
    [[nodiscard]] constexpr const std::uint8_t *end() const noexcept { return data_ + size_; }
    [[nodiscard]] constexpr const std::uint8_t &operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    const std::uint8_t *data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

// ---------------------------------------------------------------------------------------------- errors

/** What failed, and what to do about it: what() says it in English, without credentials. */
class error : public std::runtime_error {
public:
    /** An error of your own making, for instance in a test. */
    error(ms_status status, const std::string &what, std::int32_t server_code = 0, bool retriable = false,
          std::optional<std::string> worker = std::nullopt)
        : std::runtime_error{what}, status_{status}, server_code_{server_code}, retriable_{retriable}
    {
        if (worker)
            worker_ = std::make_shared<const std::string>(*std::move(worker));
    }

    /** What kind of thing went wrong: one of the MS_ERR values. */
    [[nodiscard]] ms_status status() const noexcept { return status_; }

    /** Its name, such as "MS_ERR_CONNECT". */
    [[nodiscard]] std::string_view status_name() const noexcept { return ms_status_name(status_); }

    /** The server's error code (MongoDB manual, "Error Codes"); 0 if the error is not the server's. */
    [[nodiscard]] std::int32_t server_code() const noexcept { return server_code_; }

    /**
     * Whether the same call, or the same worker started again, may succeed without a change by you: the network or an
     * election was the cause.
     */
    [[nodiscard]] bool is_retriable() const noexcept { return retriable_; }

    /**
     * The worker that failed: receiving may go on, for other workers may run. Empty if the mistake is in the call
     * itself: stop receiving. It lives as long as the error.
     */
    [[nodiscard]] std::optional<std::string_view> worker() const noexcept
    {
        return worker_ ? std::optional<std::string_view>{*worker_} : std::nullopt;
    }

private:
    ms_status status_;
    std::int32_t server_code_;
    bool retriable_;
    /* Shared, because copying an exception may not throw. */
    std::shared_ptr<const std::string> worker_;
};

// ---------------------------------------------------------------------------------------------- inside

/** Not for you: it may change with any version. */
namespace detail {

template <auto Free> struct release {
    template <class T> void operator()(T *handle) const noexcept { Free(handle); }
};

template <class T, auto Free> using owned = std::unique_ptr<T, release<Free>>;

/** Throws what C has written, and releases it. Out of the way of calls that succeed. */
[[noreturn]] inline void fail(ms_status status, ms_error *failure)
{
    if (failure == nullptr)
        throw error{status, ms_status_name(status)};
    const owned<ms_error, &ms_error_free> guard{failure};
    std::optional<std::string> worker;
    if (const char *name = ms_error_worker(failure))
        worker.emplace(name);
    throw error{ms_error_status(failure), ms_error_message(failure), ms_error_server_code(failure),
                ms_error_is_retriable(failure), std::move(worker)};
}

[[noreturn]] inline void refuse(const std::string &why) { throw error{MS_ERR_ARGUMENT, why}; }

inline ms_status checked(ms_status status, ms_error *failure)
{
    if (status < 0)
        fail(status, failure);
    return status;
}

inline std::string_view view(const char *text) noexcept
{
    return text != nullptr ? std::string_view{text} : std::string_view{};
}

/*
 * For the thread sanitizer, which does not see how the library hands what it is given from one thread to another: what
 * was written before give_over is seen after take_over.
 */
inline void give_over([[maybe_unused]] void *address) noexcept
{
#if defined(MONGOSTREAM_TSAN)
    __tsan_release(address);
#endif
}
inline void take_over([[maybe_unused]] void *address) noexcept
{
#if defined(MONGOSTREAM_TSAN)
    __tsan_acquire(address);
#endif
}

/** A text of C's as our own, if there is one. */
inline std::optional<std::string> take(char *text)
{
    const owned<char, &ms_string_free> guard{text};
    return text != nullptr ? std::optional<std::string>{text} : std::nullopt;
}

/** Whether a program that was compiled with a header may use a library. */
constexpr bool fits(std::uint32_t header, std::uint32_t library) noexcept
{
    /* Until 1.0 a minor version may change what exists. */
    const std::uint32_t compatible = header < 1000000 ? 1000 : 1000000;
    return library >= header && library / compatible == header / compatible;
}

inline void check_version()
{
    static const bool good = fits(MS_VERSION_NUMBER, ms_version_number());
    if (!good)
        throw error{MS_ERR_STATE, "this program was compiled for mongostream " + std::to_string(MS_VERSION_MAJOR) + '.'
                                      + std::to_string(MS_VERSION_MINOR) + '.' + std::to_string(MS_VERSION_PATCH)
                                      + " and runs with " + ms_version()
                                      + ": install the one that it was compiled for, or compile it again"};
}

/** Whole milliseconds, rounded up, as C takes them. Never below 0, which would wait for ever. */
template <class Rep, class Period>
constexpr std::int64_t milliseconds(std::chrono::duration<Rep, Period> time) noexcept
{
    using floating = std::chrono::duration<long double, std::milli>;
    /* Written so that a NaN does not wait. */
    if (!(time > time.zero()))
        return 0;
    /* A conversion of such times to milliseconds would overflow. */
    if (floating{time}.count() >= static_cast<long double>(std::numeric_limits<std::int64_t>::max()))
        return std::numeric_limits<std::int64_t>::max();
    return static_cast<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(time).count());
}

inline constexpr std::int64_t for_ever = -1;

/** Text for C, which knows no NUL inside. */
inline std::string text(std::string_view given, const char *what)
{
    if (given.find('\0') != std::string_view::npos)
        refuse(std::string{what} + " has a NUL inside");
    return std::string{given};
}

/** Text that a caller passes: a null pointer is a mistake that is told, and not undefined behaviour. */
class argument {
public:
    template <class T, std::enable_if_t<std::is_convertible_v<const T &, std::string_view>, int> = 0>
    argument(const T &given) : view_{of(given)} // NOLINT(google-explicit-constructor): it stands for a std::string_view
    {
    }
    argument(std::nullptr_t) = delete;

    [[nodiscard]] std::string_view get() const noexcept { return view_; }

private:
    template <class T> static std::string_view of(const T &given)
    {
        if constexpr (std::is_pointer_v<T>)
            if (given == nullptr)
                refuse("a text is a null pointer");
        return given;
    }

    std::string_view view_;
};

template <class T, class = void> struct is_range : std::false_type {};
template <class T>
struct is_range<T, std::void_t<decltype(std::begin(std::declval<const T &>()), std::end(std::declval<const T &>()))>>
    : std::true_type {};

template <class T, class = void> struct is_map : std::false_type {};
template <class T> struct is_map<T, std::void_t<typename T::key_type, typename T::mapped_type>> : std::true_type {};

template <class T> struct is_duration : std::false_type {};
template <class Rep, class Period> struct is_duration<std::chrono::duration<Rep, Period>> : std::true_type {};

template <class T>
inline constexpr bool is_character = std::is_same_v<T, char> || std::is_same_v<T, signed char>
                                     || std::is_same_v<T, unsigned char> || std::is_same_v<T, wchar_t>
                                     || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;

template <class> inline constexpr bool never = false;

inline void quote(std::string &json, std::string_view text)
{
    json += '"';
    for (const char character : text) {
        if (character == '"' || character == '\\') {
            json += '\\';
            json += character;
        } else if (static_cast<unsigned char>(character) < 0x20) {
            constexpr std::string_view digits = "0123456789abcdef";
            json += "\\u00";
            json += digits[static_cast<unsigned char>(character) >> 4U];
            json += digits[static_cast<unsigned char>(character) & 15U];
        } else {
            json += character;
        }
    }
    json += '"';
}

/** Appends the value of an option: on the outside texts are as they are, inside of lists and maps they are JSON. */
template <class T> void append(std::string &out, const T &value, bool inside)
{
    if constexpr (std::is_convertible_v<const T &, std::string_view>) {
        const std::string_view text = argument{value}.get();
        if (inside)
            quote(out, text);
        else
            out += text;
    } else if constexpr (std::is_same_v<T, bool>) {
        out += value ? "true" : "false";
    } else if constexpr (std::is_integral_v<T> && !is_character<T>) {
        out += std::to_string(value);
    } else if constexpr (is_duration<T>::value) {
        out += std::to_string(milliseconds(value));
    } else if constexpr (std::is_convertible_v<const T &, std::string>) {
        append(out, static_cast<std::string>(value), inside); // std::filesystem::path
    } else if constexpr (is_map<T>::value) {
        char before = '{';
        for (const auto &[key, each] : value) {
            out += std::exchange(before, ',');
            quote(out, argument{key}.get());
            out += ':';
            append(out, each, true);
        }
        out += before == '{' ? "{}" : "}";
    } else if constexpr (is_range<T>::value) {
        char before = '[';
        for (const auto &each : value) {
            out += std::exchange(before, ',');
            append(out, each, true);
        }
        out += before == '[' ? "[]" : "]";
    } else {
        static_assert(never<T>, "an option takes a text, bool, integer, duration, or a list or map of these");
    }
}

} // namespace detail

// -------------------------------------------------------------------------------------------- messages

/** When a change happened, by the cluster's clock (MongoDB manual, "Timestamps"). */
struct cluster_time {
    /** Since 1970. */
    std::uint32_t seconds;
    /** A number within the second. */
    std::uint32_t increment;

    friend bool operator==(const cluster_time &a, const cluster_time &b) noexcept
    {
        return a.seconds == b.seconds && a.increment == b.increment;
    }
    friend bool operator!=(const cluster_time &a, const cluster_time &b) noexcept { return !(a == b); }
};

class message;

namespace detail {

/** What a message and a message_view have in common. */
class change {
public:
    /** The message as JSON on one line, in the shape and mode of the options format and json. Made when it is first asked for. */
    [[nodiscard]] std::string_view json() const noexcept
    {
        std::size_t length = 0;
        const char *text = ms_message_json(handle_, &length);
        return {text, length};
    }

    /** The server's change event as raw BSON. */
    [[nodiscard]] MONGOSTREAM_SPAN_TAG bytes bson() const noexcept
    {
        std::size_t length = 0;
        const std::uint8_t *data = ms_message_bson(handle_, &length);
        return {data, length};
    }

    /** The operation type, "insert", "update", ... as the server names it (MongoDB manual, "Change Events"). */
    [[nodiscard]] std::string_view operation() const noexcept { return view(ms_message_operation(handle_)); }

    /**
     * Where the change happened: "shop.orders"; only the database for an event without a collection; empty for one
     * without a database. Called as MongoDB calls it, because `namespace` is a word of C++.
     */
    [[nodiscard]] std::string_view ns() const noexcept { return view(ms_message_namespace(handle_)); }

    /**
     * The id of the document that has changed, as a text: an ObjectId's 24 hexadecimal digits, a string itself, any
     * other _id as its relaxed Extended JSON ("7"); empty for an event without a document. A string with a NUL inside
     * ends there.
     */
    [[nodiscard]] std::string_view document_id() const noexcept { return view(ms_message_document_id(handle_)); }

    /** When the change happened. Nothing for an event without it: a document of a snapshot. */
    [[nodiscard]] std::optional<mongostream::cluster_time> cluster_time() const noexcept
    {
        mongostream::cluster_time time{0, 0};
        if (!ms_message_cluster_time(handle_, &time.seconds, &time.increment))
            return std::nullopt;
        return time;
    }

    /**
     * The dotted paths of all fields that an update has set, as a JSON array of texts; "[]" for other events. See
     * ms_message_updated_paths for what is and is not among them.
     */
    [[nodiscard]] std::string_view updated_paths() const noexcept
    {
        std::size_t length = 0;
        const char *text = ms_message_updated_paths(handle_, &length);
        return {text, length};
    }

    /**
     * The resume token as JSON: a worker started with it as start_after goes on after this message. Nothing for a
     * message that has no place in the stream.
     */
    [[nodiscard]] std::optional<std::string_view> resume_token() const noexcept
    {
        const char *token = ms_message_resume_token(handle_);
        return token != nullptr ? std::optional<std::string_view>{token} : std::nullopt;
    }

    /**
     * The place after this message as an opaque text: everything that the worker delivered up to and including this
     * message is done. Store it in the transaction of what you make of the message, and start again with it as the
     * option start_at_position: then each message takes effect exactly once, also in the middle of a snapshot. Nothing
     * for an event without a resume token and for a document without an _id.
     */
    [[nodiscard]] std::optional<std::string_view> position() const noexcept
    {
        const char *position = ms_message_position(handle_);
        return position != nullptr ? std::optional<std::string_view>{position} : std::nullopt;
    }

    /** The name of the worker that read the message. */
    [[nodiscard]] std::string_view worker() const noexcept { return view(ms_message_worker(handle_)); }

    /** Another handle to the same message, also to one of a batch; nothing is copied. One ack counts for both. */
    [[nodiscard]] message clone() const noexcept;

    /** Says that you are done with the message. In any order, twice without harm, also after worker and buffer are gone. */
    void ack() const noexcept { ms_message_ack(handle_); }

    /** For functions of mongostream.h. Borrowed: do not free it. */
    [[nodiscard]] const ms_message *native_handle() const noexcept { return handle_; }

protected:
    change() noexcept = default;
    explicit change(const ms_message *handle) noexcept : handle_{handle} {}
    /* Not virtual, and not for others: neither can be destroyed as a change. */
    ~change() = default;
    change(const change &) noexcept = default;
    change &operator=(const change &) noexcept = default;

    const ms_message *handle_ = nullptr;
};

} // namespace detail

/**
 * One change event. It outlives its buffer and its worker. It may be read and acked from several threads at once.
 *
 * Messages share the memory of the server's reply that they came with: one that you keep keeps up to 4 MiB of others
 * alive (of larger replies 1 MiB). If you keep messages for long, copy what you need.
 */
class message : public detail::change {
public:
    /** No message: as after a move. */
    message() noexcept = default;
    message(message &&other) noexcept : change{std::exchange(other.handle_, nullptr)} {}
    message &operator=(message &&other) noexcept
    {
        message{std::move(other)}.swap(*this);
        return *this;
    }
    message(const message &) = delete;
    message &operator=(const message &) = delete;
    /** Releases the message; if it is not acked it stays so. */
    ~message() { ms_message_free(const_cast<ms_message *>(handle_)); }

    /** Whether it holds a message. */
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    void swap(message &other) noexcept { std::swap(handle_, other.handle_); }
    friend void swap(message &a, message &b) noexcept { a.swap(b); }

private:
    friend class detail::change;
    friend class buffer;
    explicit message(ms_message *handle) noexcept : change{handle} {}
};

/** A borrowed message: one of a batch, or any other. It is copied like a pointer, and lives as long as what it came from. */
class message_view : public detail::change {
public:
    /** A view of a message of yours. Functions that take a message_view take every message. */
    message_view(const message &whole) noexcept // NOLINT(google-explicit-constructor): as a std::string_view of a text
        : change{whole.native_handle()}
    {
    }
    /* It would be gone before the view is used, unless the view is an argument; clone() it then. */
    message_view(const message &&) = delete;

private:
    friend class batch;
    explicit message_view(const ms_message *handle) noexcept : change{handle} {}
};

inline message detail::change::clone() const noexcept { return message{ms_message_clone(handle_)}; }

/**
 * Several messages, received with one call. Use one from one thread at a time.
 *
 *     while (auto batch = buffer.recv_batch(1000)) {
 *         std::cout << batch->json_lines();
 *         batch->ack();
 *     }
 */
class batch {
public:
    /** Goes over the messages in the order in which they were read. */
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = message_view;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = message_view;

        iterator() noexcept = default;
        [[nodiscard]] message_view operator*() const noexcept { return message_view{ms_batch_get(batch_, index_)}; }
        iterator &operator++() noexcept
        {
            ++index_;
            return *this;
        }
        iterator operator++(int) noexcept
        {
            iterator before = *this;
            ++index_;
            return before;
        }
        friend bool operator==(const iterator &a, const iterator &b) noexcept { return a.index_ == b.index_; }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return a.index_ != b.index_; }

    private:
        friend class batch;
        iterator(const ms_batch *batch, std::size_t index) noexcept : batch_{batch}, index_{index} {}
        const ms_batch *batch_ = nullptr;
        std::size_t index_ = 0;
    };

    /** No batch: as after a move. Its size is 0. */
    batch() noexcept = default;

    /** How many messages it holds. */
    [[nodiscard]] std::size_t size() const noexcept { return ms_batch_len(handle_.get()); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    /** One message, in the order in which they were read. Throws MS_ERR_ARGUMENT past the end. */
    [[nodiscard]] message_view operator[](std::size_t index) const
    {
        const ms_message *found = ms_batch_get(handle_.get(), index);
        if (found == nullptr)
            detail::refuse("a batch of " + std::to_string(size()) + " messages has no message "
                           + std::to_string(index));
        return message_view{found};
    }

    [[nodiscard]] iterator begin() const noexcept { return {handle_.get(), 0}; }
    [[nodiscard]] iterator end() const noexcept { return {handle_.get(), size()}; }

    /** All messages as JSON, each on a line of its own that ends in a newline. Made in one call: the fastest way. */
    [[nodiscard]] std::string_view json_lines() const noexcept
    {
        std::size_t length = 0;
        const char *text = ms_batch_json_lines(handle_.get(), &length);
        return {text, length};
    }

    /** Acks every message of the batch. */
    void ack() const noexcept { ms_batch_ack(handle_.get()); }

    /** Whether it holds messages. */
    [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }

    /** For functions of mongostream.h. Borrowed: do not free it. */
    [[nodiscard]] ms_batch *native_handle() const noexcept { return handle_.get(); }

private:
    friend class buffer;
    explicit batch(ms_batch *handle) noexcept : handle_{handle} {}
    detail::owned<ms_batch, &ms_batch_free> handle_;
};

/**
 * What a receive gave: a message (or batch), or none and why. True if there is one.
 *
 *     auto received = buffer.recv_for(100ms);
 *     if (received) use(received->json());
 *     else if (received.is_closed()) return;
 */
template <class T> class [[nodiscard]] received {
public:
    [[nodiscard]] explicit operator bool() const noexcept { return status_ == MS_OK; }

    /** The buffer is drained, and closed or without a running worker: the end. */
    [[nodiscard]] bool is_closed() const noexcept { return status_ == MS_CLOSED; }

    /** Nothing came within the time. */
    [[nodiscard]] bool is_timeout() const noexcept { return status_ == MS_TIMEOUT; }

    /** MS_OK, MS_TIMEOUT or MS_CLOSED. */
    [[nodiscard]] ms_status status() const noexcept { return status_; }

    /** What was received; an empty one if nothing was. To keep it, move it: `auto message = *std::move(received);` */
    [[nodiscard]] T &operator*() & noexcept { return value_; }
    [[nodiscard]] const T &operator*() const & noexcept { return value_; }
    [[nodiscard]] T operator*() && noexcept { return std::move(value_); }
    [[nodiscard]] T *operator->() noexcept { return &value_; }
    [[nodiscard]] const T *operator->() const noexcept { return &value_; }

private:
    friend class buffer;
    received(T value, ms_status status) noexcept : value_{std::move(value)}, status_{status} {}
    T value_;
    ms_status status_;
};

// ------------------------------------------------------------------------------------------ the buffer

/**
 * A bounded queue of messages: any number of workers in, any number of consumers out, from any thread. When it is full
 * its workers wait; nothing is ever dropped.
 */
class buffer {
public:
    /** The end of a buffer's messages. */
    struct sentinel {};

    /**
     * Receives, one message each step. An input iterator: it can be moved, not copied. A message that you want to keep
     * is moved out of it: `kept.push_back(std::move(message));`
     */
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = message;
        using difference_type = std::ptrdiff_t;
        using pointer = message *;
        using reference = message &;

        [[nodiscard]] message &operator*() const noexcept { return message_; }
        [[nodiscard]] message *operator->() const noexcept { return &message_; }
        /** Waits for the next message. Throws what buffer::recv throws. */
        iterator &operator++()
        {
            /* Released before the wait: while it waits nobody needs it. */
            message_ = message{};
            message_ = *buffer_->recv();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &at, sentinel) noexcept { return !at.message_; }
        friend bool operator!=(const iterator &at, sentinel) noexcept { return static_cast<bool>(at.message_); }
        friend bool operator==(sentinel, const iterator &at) noexcept { return !at.message_; }
        friend bool operator!=(sentinel, const iterator &at) noexcept { return static_cast<bool>(at.message_); }

    private:
        friend class buffer;
        explicit iterator(buffer &from) : buffer_{&from}, message_{*from.recv()} {}
        buffer *buffer_;
        /* A const iterator gives a message that can be moved, like a pointer. */
        mutable message message_;
    };

    /** For up to capacity messages (at least 1) and 64 MiB of change events. */
    explicit buffer(std::size_t capacity) : handle_{made(capacity, nullptr)} {}

    /**
     * For up to capacity messages and max_bytes bytes of change events (BSON), whichever is reached first; both at
     * least 1. One event that is larger than max_bytes still passes, alone.
     */
    buffer(std::size_t capacity, std::size_t max_bytes) : handle_{made(capacity, &max_bytes)} {}

    /**
     * Waits for the first message; then each step waits for the next. The loop ends when the buffer is drained, and
     * closed or without a running worker. A worker's failure is thrown: if other workers run, begin another loop.
     */
    [[nodiscard]] iterator begin() { return iterator{*this}; }
    [[nodiscard]] sentinel end() const noexcept { return {}; }

    /**
     * Waits for the next message for as long as it takes. Ack it when you are done with it: after a restart a worker
     * with a checkpoint continues with the first message that was not acked. False when the buffer is drained, and
     * closed or without a running worker. On a buffer that no worker has fed yet it waits.
     *
     * Throws why a worker failed: error::worker() names it, and receiving may go on. Each failure is given to one
     * consumer, once, in its place after the messages before it. An error without worker() is your own mistake.
     */
    received<message> recv() { return recv_within(detail::for_ever); }

    /** The next message if there is one now; it does not wait. Else as recv. */
    received<message> try_recv() { return recv_within(0); }

    /** Waits for the next message, at most for this time. Else as recv. */
    template <class Rep, class Period> received<message> recv_for(std::chrono::duration<Rep, Period> timeout)
    {
        return recv_within(detail::milliseconds(timeout));
    }

    /**
     * Waits for one message for as long as it takes, then takes what is already there, up to max (at least 1); it never
     * waits to fill the batch. Else as recv.
     */
    received<batch> recv_batch(std::size_t max) { return recv_batch_within(max, detail::for_ever); }

    /** What is there now, up to max; it does not wait. Else as recv_batch. */
    received<batch> try_recv_batch(std::size_t max) { return recv_batch_within(max, 0); }

    /** Waits for one message at most for this time. Else as recv_batch. */
    template <class Rep, class Period>
    received<batch> recv_batch_for(std::size_t max, std::chrono::duration<Rep, Period> timeout)
    {
        return recv_batch_within(max, detail::milliseconds(timeout));
    }

    /**
     * A descriptor for poll, epoll or an event loop: readable while a receive would not wait; level-triggered. It
     * belongs to the buffer: do not read, write or close it. Receive with try_recv: another consumer may have been
     * faster. -1 where the system gives none.
     */
    [[nodiscard]] int fd() noexcept { return ms_buffer_fd(handle_.get()); }

    /** How many messages are queued now. Not `size`: a loop over the buffer is not over after so many. */
    [[nodiscard]] std::size_t len() const noexcept { return ms_buffer_len(handle_.get()); }

    /** Figures of the buffer and of each of its workers as JSON on one line, see docs/STATISTICS.md. */
    [[nodiscard]] std::string stats() const { return detail::take(ms_buffer_stats(handle_.get())).value_or(""); }

    /**
     * The same figures as OpenMetrics text for Prometheus. Its Content-Type is
     * "application/openmetrics-text; version=1.0.0; charset=utf-8".
     */
    [[nodiscard]] std::string metrics() const { return detail::take(ms_buffer_metrics(handle_.get())).value_or(""); }

    /**
     * Stops the buffer's workers and wakes every consumer; what is queued can still be received. Never waits. This is
     * how another thread ends a loop over the buffer. Not from a signal handler.
     */
    void close() noexcept { ms_buffer_close(handle_.get()); }

    /** For functions of mongostream.h. Borrowed: do not free it. */
    [[nodiscard]] ms_buffer *native_handle() const noexcept { return handle_.get(); }

private:
    static ms_buffer *made(std::size_t capacity, const std::size_t *max_bytes)
    {
        detail::check_version();
        ms_buffer *handle = max_bytes != nullptr ? ms_buffer_new_with(capacity, *max_bytes) : ms_buffer_new(capacity);
        if (handle == nullptr)
            detail::refuse("a buffer needs a capacity of at least 1 message and 1 byte");
        return handle;
    }

    received<message> recv_within(std::int64_t timeout_ms)
    {
        ms_message *handle = nullptr;
        ms_error *failure = nullptr;
        const ms_status status = ms_buffer_recv_message(handle_.get(), timeout_ms, &handle, &failure);
        return {message{handle}, detail::checked(status, failure)};
    }

    received<batch> recv_batch_within(std::size_t max, std::int64_t timeout_ms)
    {
        ms_batch *handle = nullptr;
        ms_error *failure = nullptr;
        const ms_status status = ms_buffer_recv_batch(handle_.get(), max, timeout_ms, &handle, &failure);
        return {batch{handle}, detail::checked(status, failure)};
    }

    detail::owned<ms_buffer, &ms_buffer_free> handle_;
};

// ------------------------------------------------------------------------------------------ the worker

/**
 * One thread that follows one change stream and feeds one buffer. When it goes the worker is stopped, and what is still
 * to be saved of its checkpoint is saved later: join it first to know that it is saved.
 */
class [[nodiscard]] worker {
public:
    /** The name in its messages and errors: the option name, or what it watches ("shop.orders"). */
    [[nodiscard]] std::string_view name() const noexcept { return detail::view(ms_worker_name(handle_.get())); }

    /** What it is doing now, such as MS_WORKER_STREAMING. */
    [[nodiscard]] ms_worker_state state() const noexcept { return ms_worker_get_state(handle_.get()); }

    /**
     * Waits until the cursor has been open once: every later change will be delivered. False if the worker was stopped
     * before, so there is nothing to wait for. Throws why it failed; the failure still comes through the buffer, too.
     */
    bool wait_ready() const { return wait_ready_within(detail::for_ever) == MS_OK; }

    /** Waits at most for this time: MS_OK, MS_TIMEOUT, or MS_CLOSED if the worker was stopped before. Else as wait_ready. */
    template <class Rep, class Period>
    [[nodiscard]] ms_status wait_ready_for(std::chrono::duration<Rep, Period> timeout) const
    {
        return wait_ready_within(detail::milliseconds(timeout));
    }

    /** Asks it to stop; never waits. What it has put into the buffer stays there. */
    void stop() noexcept { ms_worker_stop(handle_.get()); }

    /**
     * Waits until it has ended and its checkpoint is saved; it does not ask it to end. Every ack made before is then
     * durable. Throws why it failed (the failure still comes through the buffer, too), or MS_ERR_CHECKPOINT if the
     * checkpoint could not be saved, at the latest 5 s after its end.
     */
    void join() { static_cast<void>(join_within(detail::for_ever)); }

    /** Waits at most for this time: false if it has not ended, or not saved, by then. Else as join. */
    template <class Rep, class Period> [[nodiscard]] bool join_for(std::chrono::duration<Rep, Period> timeout)
    {
        return join_within(detail::milliseconds(timeout)) == MS_OK;
    }

    /**
     * The resume token (JSON) up to which every message is acked: a worker started with it as start_after goes on
     * there. Nothing before the stream was open.
     */
    [[nodiscard]] std::optional<std::string> resume_token() const
    {
        return detail::take(ms_worker_resume_token(handle_.get()));
    }

    /** For functions of mongostream.h. Borrowed: do not free it. */
    [[nodiscard]] ms_worker *native_handle() const noexcept { return handle_.get(); }

private:
    friend class watch;
    explicit worker(ms_worker *handle) noexcept : handle_{handle} {}

    [[nodiscard]] ms_status wait_ready_within(std::int64_t timeout_ms) const
    {
        ms_error *failure = nullptr;
        const ms_status status = ms_worker_wait_ready(handle_.get(), timeout_ms, &failure);
        return detail::checked(status, failure);
    }

    [[nodiscard]] ms_status join_within(std::int64_t timeout_ms)
    {
        ms_error *failure = nullptr;
        const ms_status status = ms_worker_join(handle_.get(), timeout_ms, &failure);
        return detail::checked(status, failure);
    }

    detail::owned<ms_worker, &ms_worker_free> handle_;
};

// ---------------------------------------------------------------------------------- checkpoint stores

/** For a checkpoint_store to throw: the same call may succeed later, so try it again. */
class try_again : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/**
 * A store of your own for checkpoints: one opaque text for each name. Give it to a watch.
 *
 * Both functions are called from threads of the library, for one worker one call after the other, for several workers at
 * once. They may wait: the stream goes on meanwhile. They must not join a worker. What they throw does not get out: a
 * try_again makes the library call again later, anything else counts as refused. The text of the exception is lost, so
 * log it yourself.
 */
class checkpoint_store {
public:
    checkpoint_store() = default;
    checkpoint_store(const checkpoint_store &) = delete;
    checkpoint_store &operator=(const checkpoint_store &) = delete;
    virtual ~checkpoint_store() = default;

    /** The text that was saved last under the name, or nothing if there is none. */
    virtual std::optional<std::string> load(std::string_view name) = 0;

    /**
     * Replaces the text. When it returns, the text must survive a crash of the machine. When it throws, the text before
     * must still be there.
     */
    virtual void save(std::string_view name, std::string_view text) = 0;
};

namespace detail {

using shared_store = std::shared_ptr<checkpoint_store>;

/** Runs a store's function: no exception may get into C. */
template <class Call> std::int32_t answer(void *store, Call &&call) noexcept
{
    take_over(store);
    std::int32_t answered = 0;
    try {
        std::forward<Call>(call)(**static_cast<shared_store *>(store));
    } catch (const try_again &) {
        answered = 1;
    } catch (...) {
        answered = -1;
    }
    give_over(store);
    return answered;
}

inline std::int32_t load_checkpoint(void *store, const char *name, char **out) noexcept
{
    return answer(store, [&](checkpoint_store &own) {
        const std::optional<std::string> found = own.load(name);
        if (!found)
            return;
        const std::string whole = text(*found, "the checkpoint");
        /* The library frees it. */
        char *copy = static_cast<char *>(std::malloc(whole.size() + 1));
        if (copy == nullptr)
            throw try_again{"no memory"};
        std::memcpy(copy, whole.c_str(), whole.size() + 1);
        *out = copy;
    });
}

inline std::int32_t save_checkpoint(void *store, const char *name, const char *text) noexcept
{
    return answer(store, [&](checkpoint_store &own) { own.save(name, text); });
}

inline void release_store(void *store) noexcept
{
    take_over(store);
    const std::unique_ptr<shared_store> last{static_cast<shared_store *>(store)};
}

} // namespace detail

// ------------------------------------------------------------------------------------------- starting

/**
 * What to watch, and how. Without a collection it is the whole database. Without a database it is the one in the URI's
 * path, and where there is none, or "/admin", the whole deployment.
 *
 *     auto worker = mongostream::watch(uri).database("shop").collection("orders").start(buffer);
 *
 * It may serve for any number of workers; later changes to it do not touch them. Use one from one thread at a time.
 */
class watch {
public:
    /** The deployment (MongoDB manual, "Connection Strings"). */
    explicit watch(detail::argument uri) : uri_{detail::text(uri.get(), "the URI")}, options_{new_options()} {}

    watch &database(detail::argument name) &
    {
        database_ = detail::text(name.get(), "the database");
        return *this;
    }
    watch &&database(detail::argument name) && { return std::move(database(name)); }

    watch &collection(detail::argument name) &
    {
        collection_ = detail::text(name.get(), "the collection");
        return *this;
    }
    watch &&collection(detail::argument name) && { return std::move(collection(name)); }

    /**
     * Sets an option of docs/OPTIONS.md; the last value set holds. A value is a text, also a std::filesystem::path; a
     * bool; an integer; a std::chrono duration, which becomes milliseconds; or a list or map of these, which becomes
     * JSON:
     *
     *     .option("full_document", "updateLookup").option("updated_paths", true).option("retry_ms", 30s)
     *     .option("namespaces", {"orders", "items_*"})
     *
     * Throws MS_ERR_ARGUMENT for an unknown name or a bad value, with a text that names the option and what it takes.
     * The options are then as before.
     */
    template <class T> watch &option(detail::argument name, const T &value) &
    {
        std::string written;
        detail::append(written, value, false);
        set(name.get(), written);
        return *this;
    }
    template <class T> watch &&option(detail::argument name, const T &value) && { return std::move(option(name, value)); }

    watch &option(detail::argument name, std::initializer_list<std::string_view> values) &
    {
        std::string written;
        detail::append(written, values, false);
        set(name.get(), written);
        return *this;
    }
    watch &&option(detail::argument name, std::initializer_list<std::string_view> values) &&
    {
        return std::move(option(name, values));
    }

    /**
     * Keeps the checkpoints in a store of your own, in place of the options checkpoint_file and checkpoint_collection.
     * The store is let go, from any thread, when this watch and every worker started with it are gone and have saved.
     */
    watch &checkpoint_store(std::shared_ptr<mongostream::checkpoint_store> store) &
    {
        if (store == nullptr)
            detail::refuse("the checkpoint store is null");
        auto shared = std::make_unique<detail::shared_store>(std::move(store));
        detail::give_over(shared.get());
        ms_error *failure = nullptr;
        const ms_status status =
            ms_options_set_checkpoint_store(options_.get(), &detail::load_checkpoint, &detail::save_checkpoint,
                                            &detail::release_store, shared.get(), &failure);
        /* If it has failed nobody else releases it. */
        detail::checked(status, failure);
        static_cast<void>(shared.release());
        return *this;
    }
    watch &&checkpoint_store(std::shared_ptr<mongostream::checkpoint_store> store) &&
    {
        return std::move(checkpoint_store(std::move(store)));
    }

    /** An independent copy with every value that is set so far. A checkpoint store is shared by both. */
    [[nodiscard]] watch clone() const
    {
        watch copy{uri_, ms_options_clone(options_.get())};
        copy.database_ = database_;
        copy.collection_ = collection_;
        return copy;
    }

    /**
     * Starts a worker that feeds the buffer. Every argument and option is checked now; the worker connects on its own
     * thread, and what goes wrong there comes through the buffer.
     *
     * Throws MS_ERR_ARGUMENT; MS_ERR_STATE for a closed buffer; MS_ERR_IN_USE if another worker uses the checkpoint;
     * MS_ERR_CHECKPOINT if its store cannot be used; MS_ERR_RESOURCE if the system gives no thread or descriptor;
     * MS_ERR_FORKED.
     */
    [[nodiscard]] worker start(buffer &into) const
    {
        ms_error *failure = nullptr;
        ms_worker *started = ms_worker_start(uri_.c_str(), database_ ? database_->c_str() : nullptr,
                                             collection_ ? collection_->c_str() : nullptr, into.native_handle(),
                                             options_.get(), &failure);
        if (started == nullptr)
            detail::fail(MS_ERR_PANIC, failure);
        return worker{started};
    }

private:
    using options = detail::owned<ms_options, &ms_options_free>;

    watch(std::string uri, ms_options *copied) : uri_{std::move(uri)}, options_{copied} {}

    static ms_options *new_options()
    {
        detail::check_version();
        ms_options *made = ms_options_new();
        if (made == nullptr)
            detail::fail(MS_ERR_PANIC, nullptr);
        return made;
    }

    void set(std::string_view name, std::string_view value)
    {
        const std::string option = detail::text(name, "the name of an option");
        const std::string written = detail::text(value, ("the value of " + option).c_str());
        ms_error *failure = nullptr;
        /* Two statements: as one the failure may be read before it is written. */
        const ms_status status = ms_options_set(options_.get(), option.c_str(), written.c_str(), &failure);
        detail::checked(status, failure);
    }

    std::string uri_;
    std::optional<std::string> database_;
    std::optional<std::string> collection_;
    options options_;
};

// ------------------------------------------------------------------------------------------- the process

/** Gets a line of the log: how much it matters, the name of the worker that it is about, the text without a newline. */
using log_callback = std::function<void(ms_log_level level, std::string_view worker, std::string_view message)>;

namespace detail {

struct log_state {
    std::mutex setting;
    std::unique_ptr<log_callback> current;
};

/** Never destroyed: workers may log while the process ends. */
inline log_state &the_log()
{
    static auto *const state = new log_state;
    return *state;
}

inline bool &inside_log_callback() noexcept
{
    thread_local bool inside = false;
    return inside;
}

inline void log_line(void *callback, ms_log_level level, const char *worker, const char *message) noexcept
{
    take_over(callback);
    bool &inside = inside_log_callback();
    const bool before = std::exchange(inside, true);
    try {
        (*static_cast<log_callback *>(callback))(level, view(worker), view(message));
    } catch (...) { // NOLINT(bugprone-empty-catch): no exception may get into C, and a line of the log is no reason to end the process
    }
    inside = before;
    give_over(callback);
}

} // namespace detail

/**
 * Sets the one log callback of the process, for every line up to max_level, in place of the one before. An empty one
 * switches it off. No line holds credentials. Without a callback nothing is logged, unless the environment variable
 * MONGOSTREAM_LOG asks for it.
 *
 *     mongostream::log_set([](ms_log_level, std::string_view worker, std::string_view message) {
 *         std::clog << worker << ": " << message << std::endl;
 *     }, MS_LOG_WARN);
 *
 * The callback is called from the workers' threads, from several at once. Its views live only during the call. A worker
 * waits for it: let it be quick, and wait for no worker in it. What it throws is dropped.
 *
 * log_set returns after every running call of the callback before has ended, and destroys that callback. So do not call
 * it while you hold what the callback waits for. The callback is called until it is replaced, also while the process
 * ends: switch it off before what it uses is gone.
 *
 * Throws MS_ERR_ARGUMENT for a level that does not exist, MS_ERR_STATE from inside a callback: then nothing has changed.
 */
inline void log_set(log_callback callback, ms_log_level max_level)
{
    /* C says so, too, but only after the lock, for which the callback would wait. */
    if (detail::inside_log_callback())
        throw error{MS_ERR_STATE, "log_set was called from inside the log callback"};
    detail::check_version();
    detail::log_state &log = detail::the_log();
    std::unique_ptr<log_callback> next;
    if (callback)
        next = std::make_unique<log_callback>(std::move(callback));
    const std::lock_guard<std::mutex> only{log.setting};
    detail::give_over(next.get());
    const ms_status status = ms_log_set(next ? &detail::log_line : nullptr, next.get(), max_level);
    if (status == MS_ERR_STATE)
        throw error{status, "log_set was called from inside a log callback"};
    if (status != MS_OK)
        throw error{status, "there is no log level " + std::to_string(max_level)};
    detail::take_over(log.current.get());
    log.current = std::move(next);
}

/** Switches the log callback off, see log_set. */
inline void log_off() { log_set(nullptr, MS_LOG_OFF); }

/**
 * Ends every wait of this process, now and from now on: every buffer is closed, and so is each that is made later.
 * Never waits. It is called by itself at exit.
 */
inline void shutdown() noexcept { ms_shutdown(); }

/** The version of the library that the program runs with, such as "0.1.0". */
[[nodiscard]] inline std::string_view version() noexcept { return ms_version(); }

/** The same as one number, as MS_VERSION_NUMBER counts it. */
[[nodiscard]] inline std::uint32_t version_number() noexcept { return ms_version_number(); }

/** The table of options as a JSON array, see ms_options_describe. */
[[nodiscard]] inline std::string options_describe() { return detail::take(ms_options_describe()).value_or(""); }

} // namespace mongostream

#undef MONGOSTREAM_SPAN_TAG
#undef MONGOSTREAM_TSAN

#endif /* MONGOSTREAM_HPP */
