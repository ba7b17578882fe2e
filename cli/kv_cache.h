#pragma once

#include <CLI/CLI.hpp>

#include "runtime/kv_cache.h"

namespace attar::cli {

inline void add_kv_cache(CLI::App& sub, CacheType& cache) {
  sub.add_option_function<std::string>(
         "--kv-cache", [&cache](const std::string& name) { cache = name == "q8_0" ? CacheType::kQ8_0 : CacheType::kF16; },
         "How keys and values are kept by a quantized model: f16, or q8_0 in about half the memory")
      ->check(CLI::IsMember({"f16", "q8_0"}))
      ->default_str("f16");
}

}  // namespace attar::cli
