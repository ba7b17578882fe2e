// Someone's kernels, by the C interface, against golden vectors.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "cli/golden.h"

namespace attar::cli {
namespace {

// Tensors of the file by name, with the type and shape that the index promises.
class Golden {
 public:
  explicit Golden(const SafetensorsFile& file) {
    for (const Tensor& tensor : file.tensors) tensors_[tensor.name] = &tensor;
  }
  // columns: -1 for any number.
  QuantizedTensor read(const std::string& name, Type type, std::int64_t rows, std::int64_t columns) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end())
      fail("golden: kernels.safetensors lacks the tensor ", name, " that golden.json asks for");
    const Tensor& tensor = *found->second;
    if (tensor.type != type || tensor.shape.size() != 2 || tensor.shape[0] != rows ||
        (columns >= 0 && tensor.shape[1] != columns))
      fail("golden: ", name, " is ", info(tensor.type).name, " ", shape_text(tensor.shape), ", expected ",
           info(type).name, " (", rows, ", ", columns < 0 ? "any" : cat(columns), ")");
    return read_packed(tensor);
  }
  std::vector<float> floats(const std::string& name, std::int64_t rows, std::int64_t columns) const {
    const QuantizedTensor data = read(name, Type::kF32, rows, columns);
    std::vector<float> values(data.bytes.size() / sizeof(float));
    std::memcpy(values.data(), data.bytes.data(), data.bytes.size());
    return values;
  }
  std::int64_t rows(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() || found->second->shape.empty() ? 0 : found->second->shape[0];
  }

 private:
  std::map<std::string, const Tensor*> tensors_;
};

class Checker {
 public:
  Checker(const KernelFunctions& kernels, const SafetensorsFile& file) : kernels_(kernels), golden_(file) {
    const auto lacks = [&](bool present, const char* name) {
      if (!present) result_.not_checked.emplace_back(name);
    };
    lacks(kernels.decode_row, "attar_decode_row"), lacks(kernels.encode_activations, "attar_encode_activations");
    lacks(kernels.dot, "attar_dot"), lacks(kernels.gemv, "attar_gemv"), lacks(kernels.gemm, "attar_gemm");
  }

  void check(const nlohmann::json& entry) {
    Case c{entry.at("name"), entry.at("type"),    kernels_.type_by_name(entry.at("type").get<std::string>().c_str()),
           entry.at("rows"), entry.at("columns"), {}};
    if (c.type < 0) {
      if (std::find(result_.not_checked.begin(), result_.not_checked.end(), c.type_name) == result_.not_checked.end())
        result_.not_checked.push_back(c.type_name);
      return;
    }
    c.packed = golden_.read(c.name + ".packed", Type::kI8, c.rows, -1);
    if (kernels_.decode_row != nullptr) check_decoding(c);
    const std::string activations = cat("activations.", c.columns);
    const std::int64_t tokens = golden_.rows(activations);
    const std::vector<float> X = golden_.floats(activations, tokens, c.columns);
    for (const std::string kind : entry.at("activations")) {
      const auto found = std::find(std::begin(kActivationNames), std::end(kActivationNames), kind);
      if (found == std::end(kActivationNames))
        fail("golden: golden.json names activations '", kind, "' that do not exist");
      check_products(c, static_cast<attar_activations>(found - std::begin(kActivationNames)), X, tokens);
    }
  }

  KernelCheck take() { return std::move(result_); }

 private:
  struct Case {
    std::string name, type_name;
    int type;
    std::int64_t rows, columns;
    QuantizedTensor packed;
    std::size_t stride() const { return static_cast<std::size_t>(packed.columns()); }
    const std::byte* row(std::int64_t r) const { return packed.bytes.data() + static_cast<std::size_t>(r) * stride(); }
  };

  // True if the call went well.
  bool answered(attar_status status, const Difference& about) {
    if (status == ATTAR_OK) return true;
    Difference difference = about;
    const std::string said = kernels_.last_error != nullptr ? kernels_.last_error() : "";
    difference.error = cat("answered ", static_cast<int>(status), " (", attar_kernels_strerror(status),
                           said.empty() ? "" : ": ", said, ")");
    result_.differences.push_back(difference);
    return false;
  }

  // got, expected: (rows, columns) of the tensor. Only the first difference is kept. tolerance: per value; empty: none.
  void compare(Difference about, const std::vector<float>& got, const std::vector<float>& expected,
               const std::vector<float>& tolerance, std::int64_t columns) {
    result_.values += expected.size();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double allowed = tolerance.empty() ? 0 : tolerance[i];
      if (std::fabs(static_cast<double>(got[i]) - expected[i]) <= allowed) continue;  // false for NaN
      about.row = static_cast<std::int64_t>(i) / columns, about.column = static_cast<std::int64_t>(i) % columns;
      about.expected = expected[i], about.got = got[i], about.tolerance = allowed;
      result_.differences.push_back(about);
      return;
    }
  }

  void check_decoding(const Case& c) {
    const Difference about{"attar_decode_row", c.name + ".values", c.type_name, "", 0, 0, 0, 0, 0, ""};
    const auto columns = static_cast<std::size_t>(c.columns);
    std::vector<float> got(static_cast<std::size_t>(c.rows) * columns, std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t r = 0; r < c.rows; ++r)
      if (!answered(kernels_.decode_row(c.type, c.row(r), c.stride(),
                                        got.data() + static_cast<std::size_t>(r) * columns, columns),
                    about))
        return;
    compare(about, got, golden_.floats(about.tensor, c.rows, c.columns), {}, c.columns);
  }

  // Each vector's bytes must be those of the golden file, which has no value near a tie.
  void check_rounding(attar_activations kind, const std::string& name, const std::vector<float>& X,
                      const QuantizedTensor& expected, std::int64_t columns) {
    if (kernels_.encode_activations == nullptr || std::find(rounded_.begin(), rounded_.end(), name) != rounded_.end())
      return;
    rounded_.push_back(name);
    const Difference about{"attar_encode_activations", name, "", kActivationNames[kind], 0, 0, 0, 0, 0, ""};
    const auto width = static_cast<std::size_t>(expected.columns());
    Bytes got(expected.bytes.size());
    for (std::int64_t t = 0; t < expected.rows(); ++t)
      if (!answered(kernels_.encode_activations(kind, X.data() + t * columns, static_cast<std::size_t>(columns),
                                                got.data() + static_cast<std::size_t>(t) * width, width),
                    about))
        return;
    const auto numbers = [](const Bytes& bytes) {
      std::vector<float> values;
      for (const std::byte b : bytes) values.push_back(static_cast<float>(b));
      return values;
    };
    compare(about, numbers(got), numbers(expected.bytes), {}, expected.columns());
  }

  void check_products(const Case& c, attar_activations kind, const std::vector<float>& X, std::int64_t tokens) {
    const std::string name = cat(c.name, ".", kActivationNames[kind]), activations = cat("activations.", c.columns);
    const auto rows = static_cast<std::size_t>(c.rows), columns = static_cast<std::size_t>(c.columns);
    const auto count = static_cast<std::size_t>(tokens);
    const std::vector<float> expected = golden_.floats(name + ".products", tokens, c.rows);
    const std::vector<float> tolerance = golden_.floats(name + ".tolerance", tokens, c.rows);
    Difference about{"attar_dot", name + ".products", c.type_name, kActivationNames[kind], 0, 0, 0, 0, 0, ""};
    const std::vector<float> nothing(expected.size(), std::numeric_limits<float>::quiet_NaN());

    QuantizedTensor rounded{Type::kF32, {tokens, c.columns * 4}, {}};  // floats as bytes
    if (kind == ATTAR_ACTIVATIONS_F32) {
      rounded.bytes.resize(X.size() * sizeof(float));
      std::memcpy(rounded.bytes.data(), X.data(), rounded.bytes.size());
      rounded.type = Type::kI8;
    } else {
      rounded = golden_.read(cat(activations, ".", kActivationNames[kind]), Type::kI8, tokens, -1);
      check_rounding(kind, cat(activations, ".", kActivationNames[kind]), X, rounded, c.columns);
    }
    if (kernels_.dot != nullptr) {
      const auto width = static_cast<std::size_t>(rounded.columns());
      std::vector<float> got = nothing;
      bool whole = true;
      for (std::size_t t = 0; whole && t < count; ++t)
        for (std::size_t r = 0; whole && r < rows; ++r)
          whole = answered(kernels_.dot(c.type, c.row(static_cast<std::int64_t>(r)), c.stride(), kind,
                                        rounded.bytes.data() + t * width, width, columns, &got[t * rows + r]),
                           about);
      if (whole) compare(about, got, expected, tolerance, c.rows);
    }
    if (kernels_.gemv != nullptr) {
      about.function = "attar_gemv";
      std::vector<float> got = nothing;
      bool whole = true;
      for (std::size_t t = 0; whole && t < count; ++t)
        whole = answered(kernels_.gemv(c.type, c.packed.bytes.data(), c.packed.bytes.size(), rows, columns, kind,
                                       X.data() + t * columns, got.data() + t * rows),
                         about);
      if (whole) compare(about, got, expected, tolerance, c.rows);
    }
    if (kernels_.gemm != nullptr) {
      about.function = "attar_gemm";
      std::vector<float> got = nothing;
      if (answered(kernels_.gemm(c.type, c.packed.bytes.data(), c.packed.bytes.size(), rows, columns, kind, X.data(),
                                 count, got.data()),
                   about))
        compare(about, got, expected, tolerance, c.rows);
    }
  }

  const KernelFunctions& kernels_;
  Golden golden_;
  KernelCheck result_;
  std::vector<std::string> rounded_;  // activations that have been checked
};

}  // namespace

KernelFunctions own_kernels() {
  return {attar_type_by_name, attar_decode_row, attar_encode_activations, attar_dot,
          attar_gemv,         attar_gemm,       attar_kernels_last_error};
}

KernelFunctions load_kernels(const std::string& library) {
  void* const handle = ::dlopen(std::filesystem::absolute(library).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) fail("golden: cannot load ", library, ": ", ::dlerror());
  KernelFunctions k;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
  };
  find(k.type_by_name, "attar_type_by_name"), find(k.decode_row, "attar_decode_row"),
      find(k.encode_activations, "attar_encode_activations");
  find(k.dot, "attar_dot"), find(k.gemv, "attar_gemv"), find(k.gemm, "attar_gemm"),
      find(k.last_error, "attar_kernels_last_error");
  if (k.type_by_name == nullptr)
    fail("golden: ", library, " has no function attar_type_by_name; attar_kernels.h declares what is looked for");
  if (!k.decode_row && !k.encode_activations && !k.dot && !k.gemv && !k.gemm)
    fail("golden: ", library,
         " has none of attar_decode_row, attar_encode_activations, attar_dot, attar_gemv and attar_gemm; there is "
         "nothing to check");
  return k;
}

KernelCheck check_kernels(const KernelFunctions& kernels, const SafetensorsFile& file, const nlohmann::json& index) {
  Checker checker(kernels, file);
  for (const nlohmann::json& entry : index.at("cases")) checker.check(entry);
  return checker.take();
}

}  // namespace attar::cli
