#include "convert/json.h"
#include "convert/model_config.h"
#include "fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return attar::fuzz::expect_only_errors([&] {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const attar::ModelConfig config = attar::parse_config(attar::parse_json(text, "fuzz"), "fuzz");
    attar::parameters(config);
    // What is written must be read again.
    const nlohmann::json written = attar::config_json(config);
    if (attar::config_json(attar::parse_config(written, "written")) != written) __builtin_trap();
  });
}
