// TensorBoard's event files, written by hand: a file of TFRecords, each an Event message.
//
// Framing: tensorflow/core/lib/io/record_writer.h; messages: tensorflow/core/util/event.proto and
// tensorflow/core/framework/summary.proto (https://github.com/tensorflow/tensorflow).
//   record: u64 length | u32 masked CRC32C of the length | data | u32 masked CRC32C of the data     (little-endian)
//   Event: 1 double wall_time, 2 int64 step, 3 string file_version, 5 Summary
//   Summary: repeated 1 Value; Value: 1 string tag, 2 float simple_value
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace attar {

std::uint32_t crc32c(ByteView bytes);         // Castagnoli, RFC 3720 appendix B.4
std::uint32_t masked_crc32c(ByteView bytes);  // rotated and offset, as TFRecord stores it

Bytes event_file_head(double wall_time);      // the first record, which names the version; wall_time: Unix seconds
Bytes scalar_event(double wall_time, std::int64_t step, const std::vector<std::pair<std::string, float>>& scalars);

}  // namespace attar
