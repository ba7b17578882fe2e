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

std::vector<Ids> read_ids(const std::string& command, const std::string& path) {
  const SafetensorsFile file = read_safetensors(path);
  const Tensor& tensor = input_ids(command, file, path);
  if (tensor.type != Type::kI64 || tensor.shape.size() != 2 || element_count(tensor.shape) == 0)
    fail(command, ": ", path, ": input_ids is ", info(tensor.type).name, " ", shape_text(tensor.shape),
         ", expected i64 (batch, time)");
  std::vector<Ids> rows(static_cast<std::size_t>(tensor.rows()), Ids(static_cast<std::size_t>(tensor.columns())));
  for (std::int64_t row = 0; row < tensor.rows(); ++row)
    tensor.read_rows(row, row + 1, std::as_writable_bytes(std::span(rows[static_cast<std::size_t>(row)])).data());
  return rows;
}

}  // namespace attar::cli
