#include "convert/safetensors.h"
#include "fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return attar::fuzz::expect_only_errors([&] {
    const attar::fuzz::MemoryFile file(data, size);
    for (const attar::Tensor& tensor : attar::read_safetensors(file.path()).tensors) {
      attar::read_packed(tensor);
      if (tensor.rows() > 1) attar::read_floats(tensor, tensor.rows() - 1, tensor.rows());
    }
  });
}
