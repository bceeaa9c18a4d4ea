// What the types promise to the compiler. A second file with the header also shows that everything in it is inline.
#include "harness.hpp"

#include <mongostream.hpp>

#include <iterator>
#include <type_traits>
#if defined(__cpp_lib_ranges)
#include <ranges>
#endif

namespace ms = mongostream;

template <class T>
constexpr bool moves_only = !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>
                            && std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T>
                            && std::is_nothrow_destructible_v<T>;

static_assert(moves_only<ms::buffer>);
static_assert(moves_only<ms::worker>);
static_assert(moves_only<ms::message>);
static_assert(moves_only<ms::batch>);
static_assert(moves_only<ms::watch>);
static_assert(moves_only<ms::received<ms::message>>);
static_assert(moves_only<ms::received<ms::batch>>);
static_assert(moves_only<ms::buffer::iterator>);
static_assert(std::is_trivially_copyable_v<ms::message_view>);

// As large as what C gives.
static_assert(sizeof(ms::message) == sizeof(void *));
static_assert(sizeof(ms::message_view) == sizeof(void *));
static_assert(sizeof(ms::batch) == sizeof(void *));
static_assert(sizeof(ms::buffer) == sizeof(void *));
static_assert(sizeof(ms::worker) == sizeof(void *));

// An exception must be copied without a throw, and a message is not cut down to what it has in common with a view.
static_assert(std::is_nothrow_copy_constructible_v<ms::error>);
static_assert(std::is_base_of_v<std::runtime_error, ms::error>);
static_assert(!std::is_assignable_v<ms::message &, ms::message_view>);
static_assert(std::is_convertible_v<const ms::message &, ms::message_view>);
static_assert(!std::is_convertible_v<ms::message, ms::message_view>);

// No number becomes a buffer, and no text becomes a watch, by itself.
static_assert(!std::is_convertible_v<std::size_t, ms::buffer>);
static_assert(!std::is_convertible_v<const char *, ms::watch>);
static_assert(!std::is_constructible_v<ms::watch, std::nullptr_t>);

#if defined(__cpp_lib_span)
static_assert(std::is_same_v<ms::bytes, std::span<const std::uint8_t>>);
#endif
#if defined(__cpp_lib_ranges)
static_assert(std::ranges::input_range<ms::buffer>);
static_assert(!std::ranges::sized_range<ms::buffer>);
static_assert(std::ranges::input_range<ms::batch>);
static_assert(std::ranges::sized_range<ms::batch>);
#endif

TEST(an_error_of_ones_own_can_be_made)
{
    const ms::error plain{MS_ERR_AUTH, "no"};
    CHECK(!plain.worker());
    CHECK_EQ(plain.server_code(), 0);
    const ms::error full{MS_ERR_AUTH, "no", 18, true, "w"};
    CHECK_EQ(full.worker().value(), std::string_view{"w"});
    CHECK_EQ(full.server_code(), 18);
    CHECK(full.is_retriable());
}
