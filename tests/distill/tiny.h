// Models and data small enough that a test trains them in a second.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/random.h"
#include "datasets/tokenizer.h"
#include "distill/data.h"
#include "model/decoder.h"
#include "tests/cli/tiny_model.h"

namespace attar::test {

inline nlohmann::json tiny_json() { return tiny_config(); }

inline std::shared_ptr<Decoder> tiny_decoder(std::uint64_t seed, const nlohmann::json& json = tiny_json()) {
  auto decoder = std::make_shared<Decoder>(parse_config(json, "tiny"));
  initialise(*decoder, seed);
  return decoder;
}

// Chunks with something to learn: each token is one of two that may follow the one before.
inline std::vector<Ids> tiny_ids(std::int64_t count, std::int64_t length, std::uint64_t seed) {
  Random random(seed);
  std::vector<Ids> chunks(static_cast<std::size_t>(count));
  for (Ids& chunk : chunks) {
    std::int64_t token = static_cast<std::int64_t>(random.below(16));
    for (std::int64_t i = 0; i < length; ++i) {
      chunk.push_back(token);
      token = (token * 5 + 7 + 11 * static_cast<std::int64_t>(random.below(2))) % 16;
    }
  }
  return chunks;
}
inline std::vector<Chunk> tiny_chunks(std::int64_t count, std::int64_t length, std::uint64_t seed) {
  const auto ids = tiny_ids(count, length, seed);
  return {ids.begin(), ids.end()};
}

}  // namespace attar::test
