#include "convert/mlx.h"
#include "convert/safetensors.h"
#include "fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return attar::fuzz::expect_only_errors([&] {
    const attar::fuzz::MemoryFile file(data, size);
    const nlohmann::json packing = {{"group_size", 32}, {"bits", 3}, {"m", {{"group_size", 64}, {"bits", 8}}}};
    for (const attar::Tensor& tensor : attar::from_mlx(attar::read_safetensors(file.path()).tensors, packing, "fuzz")) {
      attar::read_packed(tensor);
      if (tensor.rows() > 1) attar::read_floats(tensor, tensor.rows() - 1, tensor.rows());
    }
  });
}
