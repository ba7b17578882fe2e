#include "distill/events.h"

#include <array>

namespace attar {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  constexpr std::uint32_t kPolynomial = 0x82f63b78u;  // Castagnoli, bits reversed
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? kPolynomial : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

// Protocol Buffers' wire format.
enum Wire : std::uint64_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

void varint(ByteWriter& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.write(static_cast<std::uint8_t>(value | 0x80));
  out.write(static_cast<std::uint8_t>(value));
}
void key(ByteWriter& out, std::uint64_t field, Wire wire) { varint(out, field << 3 | wire); }
void bytes_field(ByteWriter& out, std::uint64_t field, ByteView value) {
  key(out, field, kLength);
  varint(out, value.size());
  out.append(value);
}

Bytes record(ByteView data) {
  ByteWriter length, out;
  length.write(static_cast<std::uint64_t>(data.size()));
  out.append(length.bytes());
  out.write(masked_crc32c(length.bytes()));
  out.append(data);
  out.write(masked_crc32c(data));
  return out.bytes();
}

void wall_time_field(ByteWriter& event, double wall_time) {
  key(event, 1, kFixed64);
  event.write(wall_time);
}

}  // namespace

std::uint32_t crc32c(ByteView bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const std::byte b : bytes) crc = kCrcTable[(crc ^ static_cast<std::uint8_t>(b)) & 0xffu] ^ (crc >> 8);
  return crc ^ 0xffffffffu;
}

std::uint32_t masked_crc32c(ByteView bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

Bytes event_file_head(double wall_time) {
  ByteWriter event;
  wall_time_field(event, wall_time);
  bytes_field(event, 3, as_bytes("brain.Event:2"));
  return record(event.bytes());
}

Bytes scalar_event(double wall_time, std::int64_t step, const std::vector<std::pair<std::string, float>>& scalars) {
  ByteWriter summary;
  for (const auto& [tag, number] : scalars) {
    ByteWriter value;
    bytes_field(value, 1, as_bytes(tag));
    key(value, 2, kFixed32);
    value.write(number);
    bytes_field(summary, 1, value.bytes());
  }
  ByteWriter event;
  wall_time_field(event, wall_time);
  key(event, 2, kVarint);
  varint(event, static_cast<std::uint64_t>(step));
  bytes_field(event, 5, summary.bytes());
  return record(event.bytes());
}

}  // namespace attar
