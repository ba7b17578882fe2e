#include "quantize/imatrix.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "convert/gguf.h"

namespace attar {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

std::vector<float> floats_of(const GgufTensor& tensor, const std::string& source) {
  if (tensor.type != Type::kF32) fail(source, ": ", tensor.name, " is ", info(tensor.type).name, ", expected f32");
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  for (const float value : values)
    if (!std::isfinite(value) || value < 0) fail(source, ": ", tensor.name, " holds ", value, "; sums of squares are finite and not negative");
  return values;
}

}  // namespace

std::vector<float> ImportanceMatrix::Entry::mean() const {
  std::vector<float> mean = sums;
  for (float& value : mean) value = static_cast<float>(value / tokens);
  return mean;
}

ImportanceMatrix read_imatrix(const std::filesystem::path& path) {
  const GgufFile file(path);
  const std::string& source = file.source();
  if (file.text("general.type", "") != "imatrix")
    fail(source, ": not an importance matrix: general.type is '", file.text("general.type", ""), "', expected 'imatrix'; make one with ",
         "attar calibrate or llama-imatrix");
  ImportanceMatrix result;
  if (file.has("imatrix.datasets")) result.datasets = file.texts("imatrix.datasets");
  result.chunks = file.integer("imatrix.chunk_count", 0, INT64_MAX, 0);
  result.chunk_tokens = file.integer("imatrix.chunk_size", 0, INT64_MAX, 0);
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;  // newer ones also hold .in_sum and .stats, which nothing here needs
    result.entries[tensor.name.substr(0, tensor.name.size() - kSums.size())].sums = floats_of(tensor, source);
  }
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kCounts)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - kCounts.size());
    const std::vector<float> counts = floats_of(tensor, source);
    const auto found = result.entries.find(name);
    if (found == result.entries.end()) fail(source, ": ", tensor.name, " has no ", name, kSums);
    if (counts.size() != 1) fail(source, ": ", tensor.name, " has ", counts.size(), " counts: models with experts are not supported");
    found->second.tokens = counts.front();
  }
  for (const auto& [name, entry] : result.entries)
    if (!(entry.tokens > 0)) fail(source, ": ", name, kCounts, " is missing or 0: no token of the calibration text reached ", name);
  if (result.entries.empty()) fail(source, ": holds no importance of any matrix");
  return result;
}

void write_imatrix(const ImportanceMatrix& imatrix, const std::filesystem::path& path) {
  GgufWriter writer;
  writer.add_text("general.type", "imatrix");
  writer.add_texts("imatrix.datasets", imatrix.datasets);
  writer.add_u32("imatrix.chunk_count", static_cast<std::uint64_t>(imatrix.chunks));
  writer.add_u32("imatrix.chunk_size", static_cast<std::uint64_t>(imatrix.chunk_tokens));
  const auto add = [&](const std::string& name, std::vector<float> values) {
    const auto size = static_cast<std::int64_t>(values.size());
    writer.add_tensor(name, Type::kF32, {size}, [values = std::move(values)](Slices& slices) {
      slices.add(std::as_bytes(std::span(values)));
    });
  };
  for (const auto& [name, entry] : imatrix.entries) {
    add(cat(name, kSums), entry.sums);
    add(cat(name, kCounts), {static_cast<float>(entry.tokens)});
  }
  writer.write(path);
}

}  // namespace attar
