#include "distill/events.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "distill/train_log.h"
#include "tests/support.h"

namespace attar {
namespace {

// An independent reader: bit-by-bit CRC and a small protobuf walker.
std::uint32_t slow_crc32c(ByteView bytes) {
  std::uint32_t crc = ~0u;
  for (const std::byte b : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      const bool differ = ((crc ^ (static_cast<std::uint32_t>(b) >> bit)) & 1u) != 0;
      crc = (crc >> 1) ^ (differ ? 0x82f63b78u : 0u);
    }
  return ~crc;
}

std::uint64_t read_varint(ByteReader& in) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = in.read<std::uint8_t>("varint");
    value |= static_cast<std::uint64_t>(byte & 0x7fu) << shift;
    if ((byte & 0x80u) == 0) return value;
  }
}

struct Event {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string version;
  std::vector<std::pair<std::string, float>> scalars;
};

Event parse_event(ByteView data) {
  Event event;
  for (ByteReader in(data, "event"); in.remaining() > 0;) {
    const std::uint64_t key = read_varint(in);
    if (key == (1u << 3 | 1u)) {
      event.wall_time = in.read<double>("wall_time");
    } else if (key == (2u << 3 | 0u)) {
      event.step = static_cast<std::int64_t>(read_varint(in));
    } else if (key == (3u << 3 | 2u)) {
      event.version = as_text(in.take(read_varint(in), "version"));
    } else if (key == (5u << 3 | 2u)) {
      ByteReader summary(in.take(read_varint(in), "summary"), "summary");
      while (summary.remaining() > 0) {
        EXPECT_EQ(read_varint(summary), (1u << 3 | 2u));
        ByteReader value(summary.take(read_varint(summary), "value"), "value");
        EXPECT_EQ(read_varint(value), (1u << 3 | 2u));
        const std::string tag(as_text(value.take(read_varint(value), "tag")));
        EXPECT_EQ(read_varint(value), (2u << 3 | 5u));
        event.scalars.emplace_back(tag, value.read<float>("simple_value"));
      }
    } else {
      ADD_FAILURE() << "unexpected field " << key;
      return event;
    }
  }
  return event;
}

std::vector<Event> read_events(ByteView file) {
  const auto masked = [](ByteView bytes) {
    const std::uint32_t crc = slow_crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  std::vector<Event> events;
  for (ByteReader in(file, "events"); in.remaining() > 0;) {
    const ByteView length = in.take(8, "length");
    EXPECT_EQ(in.read<std::uint32_t>("length crc"), masked(length));
    const ByteView data = in.take(ByteReader(length, "length").read<std::uint64_t>("length"), "data");
    EXPECT_EQ(in.read<std::uint32_t>("data crc"), masked(data));
    events.push_back(parse_event(data));
  }
  return events;
}

TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);                 // the check value of CRC-32C
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\0'))), 0x8a9136aau);       // RFC 3720, B.4
  EXPECT_EQ(crc32c(as_bytes(std::string(32, '\xff'))), 0x62a8ab43u);     // RFC 3720, B.4
  EXPECT_EQ(crc32c({}), 0u);
}

TEST(EventFile, FramesAndMessagesReadBack) {
  Bytes file = event_file_head(1700000000.5);
  const Bytes scalars = scalar_event(1700000001.25, 300, {{"train/loss", 2.5f}, {"train/kl", -0.125f}});
  file.insert(file.end(), scalars.begin(), scalars.end());
  const auto events = read_events(file);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[0].wall_time, 1700000000.5);
  EXPECT_EQ(events[1].step, 300);
  EXPECT_EQ(events[1].wall_time, 1700000001.25);
  ASSERT_EQ(events[1].scalars.size(), 2u);
  EXPECT_EQ(events[1].scalars[0], (std::pair<std::string, float>("train/loss", 2.5f)));
  EXPECT_EQ(events[1].scalars[1], (std::pair<std::string, float>("train/kl", -0.125f)));
}

TEST(TrainLog, ResumedLogDropsLinesAfterTheCheckpoint) {
  const test::TempFolder folder;
  {
    TrainLog log(folder.path(), 0);
    log.add("train", 10, {{"loss", 3.0}});
    log.add("eval", 10, {{"kl", 0.5}});
    log.add("train", 20, {{"loss", 2.0}});
  }
  {
    std::ofstream(folder / kTrainLog, std::ios::app) << "{\"kind\":\"train\",\"st";  // a line cut by a crash
  }
  {
    TrainLog log(folder.path(), 10);
    log.add("train", 20, {{"loss", 1.5}});
  }
  std::istringstream lines(read_text_file(folder / kTrainLog));
  std::vector<nlohmann::json> parsed;
  for (std::string line; std::getline(lines, line);) parsed.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(parsed.size(), 3u);
  EXPECT_EQ(parsed[0]["loss"], 3.0);
  EXPECT_EQ(parsed[1]["kl"], 0.5);
  EXPECT_EQ(parsed[2]["step"], 20);
  EXPECT_EQ(parsed[2]["loss"], 1.5);
  const MappedFile file(folder / kEventFile);
  const auto events = read_events(file.bytes());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[3].scalars[0], (std::pair<std::string, float>("train/loss", 1.5f)));
}

}  // namespace
}  // namespace attar
