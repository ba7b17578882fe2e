#pragma once

#include <CLI/CLI.hpp>
#include <optional>

#include "base/error.h"
#include "runtime/kv_cache.h"

namespace attar::cli {

inline void add_kv_cache(CLI::App& sub, std::optional<CacheType>& cache) {
  sub.add_option_function<std::string>(
         "--kv-cache", [&cache](const std::string& name) { cache = name == "q8_0" ? CacheType::kQ8_0 : CacheType::kF16; },
         "How keys and values are kept by a quantized model: f16, or q8_0 in about half the memory")
      ->check(CLI::IsMember({"f16", "q8_0"}))
      ->default_str("f16");
}

// Where no runner keeps them.
inline void refuse_kv_cache(const std::optional<CacheType>& cache, const char* command) {
  if (cache) fail(command, ": --kv-cache is for quantized models that run through the kernels, not for float ones, --float or --batch; leave it out");
}

}  // namespace attar::cli
