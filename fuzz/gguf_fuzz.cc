#include "convert/checkpoint_parts.h"
#include "fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return attar::fuzz::expect_only_errors([&] {
    const attar::fuzz::MemoryFile file(data, size);
    const attar::Checkpoint checkpoint = attar::open_gguf(file.path());
    for (const attar::Tensor& tensor : checkpoint.tensors)
      attar::read_floats(tensor, 0, std::min<std::int64_t>(2, tensor.rows()));
    attar::config_json(checkpoint.config).dump();
    checkpoint.metadata.dump();
  });
}
