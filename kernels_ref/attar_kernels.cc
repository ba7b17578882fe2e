// The C interface: checks, then the C++ functions; every exception becomes a code and a text.
#include "kernels_ref/attar_kernels.h"

#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "base/threads.h"
#include "kernels_ref/dot.h"
#include "kernels_ref/multiply.h"

namespace {

using namespace attar;

thread_local std::string g_last_error;

struct Failure {
  attar_status status;
  std::string text;
};
template <class... Parts>
[[noreturn]] void refuse(attar_status status, const Parts&... parts) {
  throw Failure{status, cat(parts...)};
}

// Runs work; `otherwise` is what an Error of the C++ functions means, once sizes and types have been checked here.
template <class Work>
attar_status guarded(attar_status otherwise, const Work& work) noexcept {
  attar_status status = ATTAR_OK;
  try {
    try {
      work();
    } catch (const Failure& failure) {
      status = failure.status;
      g_last_error = failure.text;
    } catch (const std::bad_alloc&) {
      status = ATTAR_OUT_OF_MEMORY;
      g_last_error = attar_kernels_strerror(status);
    } catch (const std::exception& error) {
      status = otherwise;
      g_last_error = error.what();
    }
  } catch (...) {  // no memory for the text
    status = ATTAR_OUT_OF_MEMORY;
    g_last_error.clear();
  }
  return status;
}

void need(const void* pointer, const char* name) {
  if (pointer == nullptr) refuse(ATTAR_NULL_POINTER, name, " is null");
}

Type type_at(int type) {
  if (type < 0 || type >= attar_type_count()) refuse(ATTAR_UNKNOWN_TYPE, "type ", type, ": expected 0 to ", attar_type_count() - 1);
  return all_types()[static_cast<std::size_t>(type)].type;
}

std::size_t bytes_of_row(Type type, std::size_t weights) {
  if (weights % static_cast<std::size_t>(info(type).block_weights) != 0)
    refuse(ATTAR_NOT_WHOLE_BLOCKS, weights, " weights do not divide into blocks of ", info(type).block_weights, " of ", info(type).name);
  return static_cast<std::size_t>(row_bytes(type, weights));
}

void need_size(const char* what, std::size_t have, std::size_t wanted) {
  if (have != wanted) refuse(ATTAR_WRONG_SIZE, what, ": ", have, " bytes, expected ", wanted);
}

ByteView view(const void* data, std::size_t size) { return {static_cast<const std::byte*>(data), size}; }

Rounding rounding_of(attar_activations kind) {
  if (kind < ATTAR_ACTIVATIONS_F32 || kind > ATTAR_ACTIVATIONS_INT8_ROW)
    refuse(ATTAR_BAD_ACTIVATIONS, "there is no kind ", static_cast<int>(kind), " of activations");
  return static_cast<Rounding>(kind);
}
static_assert(static_cast<int>(Rounding::kQ8_0) == ATTAR_ACTIVATIONS_Q8_0 && static_cast<int>(Rounding::kQ8_K) == ATTAR_ACTIVATIONS_Q8_K &&
              static_cast<int>(Rounding::kRow) == ATTAR_ACTIVATIONS_INT8_ROW);

Rounding rounding_for(Type type, attar_activations kind) {
  const Rounding rounding = rounding_of(kind);
  if (!can_multiply(type, rounding)) refuse(ATTAR_BAD_ACTIVATIONS, info(type).name, " does not take activations of kind ", static_cast<int>(kind));
  return rounding;
}

std::size_t bytes_of_activations(Rounding rounding, std::size_t count) {
  switch (rounding) {
    case Rounding::kNone: return count * sizeof(float);
    case Rounding::kQ8_0: return bytes_of_row(Type::kQ8_0, count);
    case Rounding::kQ8_K: return bytes_of_row(Type::kQ8_K, count);
    case Rounding::kRow: break;
  }
  if (count % 32 != 0) refuse(ATTAR_NOT_WHOLE_BLOCKS, count, " activations: expected a multiple of 32");
  return sizeof(float) + count;
}

}  // namespace

const char* attar_kernels_strerror(attar_status status) {
  switch (status) {
    case ATTAR_OK: return "success";
    case ATTAR_NULL_POINTER: return "a pointer that must not be null is";
    case ATTAR_UNKNOWN_TYPE: return "no such type";
    case ATTAR_NOT_WHOLE_BLOCKS: return "the weights do not divide into blocks of the type";
    case ATTAR_WRONG_SIZE: return "a buffer is not as long as its contents";
    case ATTAR_BAD_VALUE: return "a value is not finite, or too large for the type";
    case ATTAR_DECODE_ONLY: return "the type can only be decoded";
    case ATTAR_BAD_ACTIVATIONS: return "the type does not take activations of this kind";
    case ATTAR_UNKNOWN_VARIANT: return "no such variant, or this processor cannot run it";
    case ATTAR_OUT_OF_MEMORY: return "out of memory";
  }
  return "not a status of attar_kernels";
}

const char* attar_kernels_last_error(void) { return g_last_error.c_str(); }

int attar_type_count(void) { return static_cast<int>(all_types().size()); }

attar_status attar_type_describe(int type, attar_type_info* out) {
  return guarded(ATTAR_UNKNOWN_TYPE, [&] {
    need(out, "info");
    const TypeInfo& entry = info(type_at(type));
    const bool encodable = entry.grid.group != 0 || entry.type == Type::kF32 || entry.type == Type::kF16 || entry.type == Type::kBF16;
    *out = {entry.name, entry.ggml_id ? static_cast<std::int32_t>(*entry.ggml_id) : -1, static_cast<std::uint32_t>(entry.block_weights),
            static_cast<std::uint32_t>(entry.block_bytes), entry.quantized, encodable,
            static_cast<attar_activations>(default_rounding(entry.type))};
  });
}

int attar_type_by_name(const char* name) {
  const auto type = name == nullptr ? std::nullopt : type_from_name(name);
  return type ? static_cast<int>(*type) : -1;
}

int attar_type_by_ggml_id(uint32_t ggml_id) {
  const auto type = type_from_ggml_id(ggml_id);
  return type ? static_cast<int>(*type) : -1;
}

attar_status attar_row_bytes(int type, size_t weights, size_t* bytes) {
  return guarded(ATTAR_NOT_WHOLE_BLOCKS, [&] {
    need(bytes, "bytes");
    *bytes = bytes_of_row(type_at(type), weights);
  });
}

attar_status attar_encode_row(int type, const float* weights, const float* importance, size_t count, void* row, size_t row_size) {
  return guarded(ATTAR_BAD_VALUE, [&] {
    need(weights, "weights"), need(row, "row");
    attar_type_info described;
    if (const attar_status status = attar_type_describe(type, &described); status != ATTAR_OK) refuse(status, attar_kernels_last_error());
    if (!described.encodable) refuse(ATTAR_DECODE_ONLY, described.name, " can only be decoded");
    need_size("row", row_size, bytes_of_row(type_at(type), count));
    const Span<const float> costs(importance, importance == nullptr ? 0 : count);
    encode_row(type_at(type), {weights, count}, costs, {static_cast<std::byte*>(row), row_size});
  });
}

attar_status attar_decode_row(int type, const void* row, size_t row_size, float* weights, size_t count) {
  return guarded(ATTAR_BAD_VALUE, [&] {
    need(row, "row"), need(weights, "weights");
    need_size("row", row_size, bytes_of_row(type_at(type), count));
    decode_row(type_at(type), view(row, row_size), {weights, count});
  });
}

attar_status attar_activations_bytes(attar_activations kind, size_t count, size_t* bytes) {
  return guarded(ATTAR_NOT_WHOLE_BLOCKS, [&] {
    need(bytes, "bytes");
    *bytes = bytes_of_activations(rounding_of(kind), count);
  });
}

attar_status attar_encode_activations(attar_activations kind, const float* x, size_t count, void* out, size_t out_bytes) {
  return guarded(ATTAR_BAD_VALUE, [&] {
    need(x, "x"), need(out, "out");
    const Rounding rounding = rounding_of(kind);
    need_size("out", out_bytes, bytes_of_activations(rounding, count));
    auto* const bytes = static_cast<std::byte*>(out);
    if (rounding != Rounding::kRow) {
      constexpr Type kTypes[] = {Type::kF32, Type::kQ8_0, Type::kQ8_K};
      return encode_activations(kTypes[static_cast<int>(rounding)], {x, count}, {bytes, out_bytes});
    }
    Activations rounded;
    rounded.round(rounding, {x, count}, 1);
    const float d = count > 0 ? rounded.token(0).d[0] : 0.0f;
    std::memcpy(bytes, &d, sizeof(d));
    std::memcpy(bytes + sizeof(d), rounded.token(0).q, count);
  });
}

attar_status attar_dot(int type, const void* row, size_t row_size, attar_activations kind, const void* activations, size_t activations_size,
                       size_t count, float* result) {
  return guarded(ATTAR_BAD_VALUE, [&] {
    need(row, "row"), need(activations, "activations"), need(result, "result");
    const Type wanted = type_at(type);
    need_size("row", row_size, bytes_of_row(wanted, count));
    const Rounding rounding = rounding_for(wanted, kind);
    need_size("activations", activations_size, bytes_of_activations(rounding, count));
    if (rounding == Rounding::kNone) {
      std::vector<float> x(count);
      if (count > 0) std::memcpy(x.data(), activations, activations_size);
      *result = dot_row(wanted, view(row, row_size), x);
    } else {
      Activations x;
      x.unpack(rounding, view(activations, activations_size), count);
      *result = dot_integers(wanted, static_cast<const std::byte*>(row), x.token(0), count);
    }
  });
}

attar_status attar_gemv(int type, const void* W, size_t W_bytes, size_t rows, size_t columns, attar_activations kind, const float* x, float* y) {
  return attar_gemm(type, W, W_bytes, rows, columns, kind, x, 1, y);
}

attar_status attar_gemm(int type, const void* W, size_t W_bytes, size_t rows, size_t columns, attar_activations kind, const float* X,
                        size_t tokens, float* Y) {
  return guarded(ATTAR_BAD_VALUE, [&] {
    need(W, "W"), need(X, "X"), need(Y, "Y");
    const Type wanted = type_at(type);
    const std::size_t row = bytes_of_row(wanted, columns);
    if (row != 0 && rows > SIZE_MAX / row) refuse(ATTAR_WRONG_SIZE, "W: ", rows, " rows of ", row, " bytes do not fit the memory");
    need_size("W", W_bytes, rows * row);
    const Rounding rounding = rounding_for(wanted, kind);
    if (tokens == 0) return;
    Activations x;
    x.round(rounding, {X, tokens * columns}, tokens);
    multiply({wanted, view(W, W_bytes), rows, columns}, x, {Y, tokens * rows});
  });
}

attar_status attar_kernels_variant(const char** name) {
  return guarded(ATTAR_UNKNOWN_VARIANT, [&] {
    need(name, "name");
    *name = kernel_variant();
  });
}

attar_status attar_kernels_select(const char* name) {
  return guarded(ATTAR_UNKNOWN_VARIANT, [&] {
    need(name, "name");
    select_kernel_variant(name);
  });
}

void attar_kernels_set_threads(int threads) { set_thread_count(threads); }
