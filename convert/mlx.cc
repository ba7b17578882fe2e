// Layout: mlx/backend/cpu/quantized.cpp and mlx/ops.cpp of MLX; config.json: mlx_lm/utils.py (load_model, quantize_model) of mlx-lm
// (https://github.com/ml-explore/mlx-lm).
#include "convert/mlx.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>

#include "base/checked.h"
#include "base/half.h"
#include "convert/json.h"

namespace attar {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string module_of(const std::string& name) { return name.substr(0, name.size() - kWeight.size()); }

// A row in memory is, group by group, scale, bias and codes (docs/formats/plain-groups.md).
constexpr std::size_t kHeader = 2 * sizeof(std::uint16_t);

// --- reading ---------------------------------------------------------------------------------------------------------

// The settings of one module: its own entry, or the ones for all.
Type type_of(const nlohmann::json& quantization, const std::string& module, const std::string& source) {
  if (!quantization.is_object())
    fail(source, ": tensor '", module, ".weight' holds u32, packed weights, but config.json has no 'quantization' object with ",
         "'group_size' and 'bits'; if another quantizer than MLX packed them, start from the original checkpoint");
  const auto found = quantization.find(module);
  const bool own = found != quantization.end() && *found != true;
  const JsonReader settings(own ? *found : quantization, cat(source, ": config.json: quantization", own ? ": " + module : ""));
  if (const std::string mode = settings.text("mode", "affine"); mode != "affine")
    fail(settings.source(), ": mode '", mode.substr(0, 40), "' is not read here, only 'affine'; start from the original checkpoint");
  const std::int64_t bits = settings.integer("bits", 2, 8), group = settings.integer("group_size", 32, 128);
  const auto type = group_type({true, static_cast<int>(bits), static_cast<int>(group)});
  if (!type)
    fail(settings.source(), ": ", bits, " bits in groups of ", group, " are not a format of MLX: expected 2, 3, 4, 5, 6 or 8 bits, ",
         "groups of 32, 64 or 128");
  return *type;
}

// f16 bits of a stored scale or bias.
std::uint16_t to_f16_bits(std::uint16_t stored, bool bf16) { return bf16 ? f16_from_f32(f32_from_bf16(stored)) : stored; }

Tensor join(const Tensor& weight, const Tensor* scales, const Tensor* biases, Type type, const std::string& source) {
  const std::string module = module_of(weight.name), where = cat(source, ": tensor '", weight.name, "'");
  if (scales == nullptr || biases == nullptr)
    fail(where, " holds packed weights, but '", module, scales == nullptr ? ".scales" : ".biases", "' is missing; the download is ",
         "incomplete or the file is damaged");
  const GroupFormat format = *group_format(type);
  if (weight.shape.size() != 2) fail(where, " has shape ", shape_text(weight.shape), "; packed weights have two dimensions");
  const std::uint64_t bit_count = checked_mul(static_cast<std::uint64_t>(weight.shape[1]), 32, where);
  const auto bits = static_cast<std::uint64_t>(format.bits), group = static_cast<std::uint64_t>(format.group);
  if (bit_count % (bits * group) != 0)
    fail(where, " has ", weight.shape[1], " words of 32 bits in a row, which do not divide into groups of ", group, " weights of ",
         bits, " bits; the settings in config.json are of other weights");
  const auto columns = static_cast<std::int64_t>(bit_count / bits), groups = columns / format.group;
  const Shape expected = {weight.shape[0], groups};
  for (const Tensor* part : {scales, biases}) {
    if (part->shape != expected)
      fail(source, ": tensor '", part->name, "' has shape ", shape_text(part->shape), ", expected ", shape_text(expected), " for '",
           weight.name, "' with ", bits, " bits in groups of ", group);
    if (part->type != Type::kF16 && part->type != Type::kBF16)
      fail(source, ": tensor '", part->name, "' holds ", info(part->type).name, "; scales and biases are read as f16 or bf16");
  }
  Tensor joined{weight.name, type, {weight.shape[0], columns}, {}};
  joined.read_rows = [weight, scales = *scales, biases = *biases, groups, bits, group, source](std::int64_t begin, std::int64_t end,
                                                                                         std::byte* out) {
    const auto count = static_cast<std::size_t>(end - begin) * static_cast<std::size_t>(groups);
    const std::size_t code_bytes = group * bits / 8;
    Bytes codes(count * code_bytes), scale_bytes(2 * count), bias_bytes(2 * count);
    weight.read_rows(begin, end, codes.data());
    scales.read_rows(begin, end, scale_bytes.data());
    biases.read_rows(begin, end, bias_bytes.data());
    const auto half_at = [&](const Tensor& tensor, const Bytes& bytes, std::size_t g) {
      std::uint16_t stored;
      std::memcpy(&stored, bytes.data() + 2 * g, 2);
      const std::uint16_t half = to_f16_bits(stored, tensor.type == Type::kBF16);
      if (!std::isfinite(f32_from_f16(half)))
        fail(source, ": tensor '", tensor.name, "' holds ", tensor.type == Type::kBF16 ? f32_from_bf16(stored) : f32_from_f16(stored),
             " in row ", begin + static_cast<std::int64_t>(g) / groups, ", group ", static_cast<std::int64_t>(g) % groups,
             "; expected a finite number of at most 65504: the file is damaged");
      return half;
    };
    for (std::size_t g = 0; g < count; ++g) {
      const std::uint16_t header[2] = {half_at(scales, scale_bytes, g), half_at(biases, bias_bytes, g)};
      std::memcpy(out, header, kHeader);
      std::memcpy(out + kHeader, codes.data() + g * code_bytes, code_bytes);
      out += kHeader + code_bytes;
    }
  };
  return joined;
}

// --- writing ---------------------------------------------------------------------------------------------------------

// The group that a matrix has in the file.
std::int64_t group_in_file(const Tensor& tensor) {
  const int group = group_format(tensor.type)->group;
  if (group != 0) return group;
  return tensor.columns() % 128 == 0 ? 128 : tensor.columns() % 64 == 0 ? 64 : 32;
}

// One of the three tensors: convert(row, out) takes its part from each packed row.
template <class Convert>
Tensor part_of(const Tensor& source, std::string name, Type type, std::int64_t columns, const Convert& convert) {
  Tensor part{std::move(name), type, {source.rows(), columns}, {}};
  const auto in = row_bytes(source.type, static_cast<std::uint64_t>(source.columns()));
  const auto out_stride = row_bytes(type, static_cast<std::uint64_t>(columns));
  part.read_rows = [source, in, out_stride, convert](std::int64_t begin, std::int64_t end, std::byte* out) {
    Bytes rows(static_cast<std::size_t>(end - begin) * in);
    source.read_rows(begin, end, rows.data());
    for (std::size_t at = 0; at < rows.size(); at += in, out += out_stride) convert(ByteView(rows).subspan(at, in), out);
  };
  return part;
}

void add_parts(const Tensor& source, std::vector<Tensor>& parts) {
  const GroupFormat format = *group_format(source.type);
  const auto columns = static_cast<std::uint64_t>(source.columns());
  const std::int64_t group = group_in_file(source), groups = source.columns() / group;
  const std::size_t header = format.affine ? 4 : 2, stored_groups = columns / group_weights(source.type, columns);
  parts.push_back(part_of(source, source.name, Type::kU32, source.columns() * format.bits / 32, [=](ByteView row, std::byte* out) {
    const std::size_t stride = row.size() / stored_groups, code_bytes = stride - header;
    for (std::size_t g = 0; g < stored_groups; ++g) std::memcpy(out + g * code_bytes, row.data() + g * stride + header, code_bytes);
  }));
  const auto halves = [&](const char* suffix, auto value) {
    const std::string name = module_of(source.name) + suffix;
    parts.push_back(part_of(source, name, Type::kF16, groups, [=, type = source.type](ByteView row, std::byte* out) {
      const std::vector<BlockScales> scales = read_scales(type, row, columns);
      for (std::int64_t g = 0; g < groups; ++g) {
        const float number = value(scales[static_cast<std::size_t>(g) * stored_groups / static_cast<std::size_t>(groups)]);
        const std::uint16_t half = f16_from_f32(number);
        if (!std::isfinite(f32_from_f16(half)))
          fail("write ", name, ": ", number, " is no f16; the weights are too large for MLX's biases, take an affine type");
        std::memcpy(out + 2 * g, &half, 2);
      }
    }));
  };
  halves(".scales", [](const BlockScales& s) { return s.d; });
  const bool affine = format.affine;
  const auto level_min = static_cast<float>(info(source.type).grid.level_min);
  halves(".biases", [affine, level_min](const BlockScales& s) { return affine ? -s.dmin : level_min * s.d; });
}

Tensor vector_as_f16(const Tensor& tensor) {
  try {
    return make_tensor(tensor.name, tensor.shape, read_floats(tensor), Type::kF16);
  } catch (const Error& error) {
    fail("write ", tensor.name, " as f16: ", error.what());
  }
}

}  // namespace

std::vector<Tensor> from_mlx(std::vector<Tensor> tensors, const nlohmann::json& quantization, const std::string& source) {
  std::unordered_map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : tensors) by_name[tensor.name] = &tensor;
  const auto find = [&](const std::string& name) {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  };
  std::vector<Tensor> result;
  std::vector<std::string> used;
  for (const Tensor& tensor : tensors) {
    if (tensor.type != Type::kU32 || !tensor.name.ends_with(kWeight)) continue;
    const std::string module = module_of(tensor.name);
    const Type type = type_of(quantization, module, source);
    result.push_back(join(tensor, find(module + ".scales"), find(module + ".biases"), type, source));
    used.insert(used.end(), {tensor.name, module + ".scales", module + ".biases"});
  }
  std::sort(used.begin(), used.end());
  for (Tensor& tensor : tensors)
    if (!std::binary_search(used.begin(), used.end(), tensor.name)) result.push_back(std::move(tensor));
  return result;
}

std::vector<Tensor> to_mlx(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : tensors) {
    if (group_format(tensor.type))
      add_parts(tensor, result);
    else
      result.push_back(tensor.shape.size() < 2 ? vector_as_f16(tensor) : tensor);
  }
  return result;
}

Type type_in_folder(const Tensor& tensor) {
  const auto format = group_format(tensor.type);
  return format ? *group_type({true, format->bits, static_cast<int>(group_in_file(tensor))}) : tensor.type;
}

nlohmann::json mlx_quantization(const std::vector<Tensor>& tensors) {
  using Settings = std::pair<std::int64_t, std::int64_t>;  // group, bits
  const auto settings_of = [](const Tensor& tensor) { return Settings{group_in_file(tensor), group_format(tensor.type)->bits}; };
  std::map<Settings, std::uint64_t> weights;
  for (const Tensor& tensor : tensors)
    if (group_format(tensor.type)) weights[settings_of(tensor)] += element_count(tensor.shape);
  const auto most = std::max_element(weights.begin(), weights.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  nlohmann::json json = {{"group_size", most->first.first}, {"bits", most->first.second}, {"mode", "affine"}};
  for (const Tensor& tensor : tensors) {
    if (!group_format(tensor.type) || settings_of(tensor) == most->first) continue;
    const auto [group, bits] = settings_of(tensor);
    json[module_of(tensor.name)] = {{"group_size", group}, {"bits", bits}};
  }
  return json;
}

}  // namespace attar
