#include "cli/ids.h"

#include "base/error.h"
#include "convert/safetensors.h"

namespace attar::cli {
namespace {

const Tensor& input_ids(const std::string& command, const SafetensorsFile& file, const std::string& path) {
  std::string names;
  for (const Tensor& tensor : file.tensors) {
    if (tensor.name == "input_ids") return tensor;
    names += (names.empty() ? "" : ", ") + tensor.name;
  }
  fail(command, ": ", path, " holds ", names.empty() ? "no tensors" : names, ", expected a tensor 'input_ids'");
}

}  // namespace

at::Tensor read_ids(const std::string& command, const std::string& path) {
  const SafetensorsFile file = read_safetensors(path);
  const Tensor& tensor = input_ids(command, file, path);
  if (tensor.type != Type::kI64 || tensor.shape.size() != 2 || element_count(tensor.shape) == 0)
    fail(command, ": ", path, ": input_ids is ", info(tensor.type).name, " ", shape_text(tensor.shape),
         ", expected i64 (batch, time)");
  at::Tensor ids = at::empty(tensor.shape, at::kLong);
  tensor.read_rows(0, tensor.rows(), static_cast<std::byte*>(ids.data_ptr()));
  return ids;
}

}  // namespace attar::cli
