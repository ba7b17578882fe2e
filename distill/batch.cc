#include "distill/batch.h"

#include <algorithm>

#include "base/error.h"
#include "distill/losses.h"

namespace attar {
namespace {

// Which text of its chunk each input belongs to, and where in it.
Packing packing_of(const std::vector<Chunk>& chunks, std::int64_t time) {
  Packing packing{at::zeros({std::ssize(chunks), time}, at::kLong), at::zeros({std::ssize(chunks), time}, at::kLong), 0};
  auto *document = packing.document.data_ptr<std::int64_t>(), *position = packing.position.data_ptr<std::int64_t>();
  for (const Chunk& chunk : chunks) {
    std::int64_t number = 0, begin = 0;
    auto next = chunk.starts.begin();
    for (std::int64_t i = 0; i < time; ++i) {
      if (next != chunk.starts.end() && *next == i) ++number, begin = i, ++next;
      *document++ = number;
      *position++ = i - begin;
      packing.longest = std::max(packing.longest, i - begin + 1);
    }
  }
  return packing;
}

}  // namespace

Batch make_batch(const std::vector<Chunk>& chunks, const at::Device& device) {
  const auto count = std::ssize(chunks), length = std::ssize(chunks.front().ids);
  at::Tensor all = at::empty({count, length}, at::kLong), wanted = at::empty({count, length}, at::kLong);
  auto *ids = all.data_ptr<std::int64_t>(), *targets = wanted.data_ptr<std::int64_t>();
  bool packed = false;
  for (const Chunk& chunk : chunks) {
    if (std::ssize(chunk.ids) != length)
      fail("[distill] chunks of ", length, " and ", chunk.ids.size(), " tokens in one batch");
    for (std::size_t i = 0; i < chunk.ids.size(); ++i) {
      *ids++ = chunk.ids[i];
      *targets++ = chunk.learn.empty() || chunk.learn[i] != 0 ? chunk.ids[i] : kIgnoredTarget;
    }
    packed = packed || !chunk.starts.empty();
  }
  Batch batch{all.narrow(1, 0, length - 1).contiguous().to(device),
              wanted.narrow(1, 1, length - 1).reshape({-1}).to(device), {}, packed};
  if (packed) {
    batch.packing = packing_of(chunks, length - 1);
    batch.packing.document = batch.packing.document.to(device);
    batch.packing.position = batch.packing.position.to(device);
  }
  return batch;
}

std::int64_t targets_of(const std::vector<Chunk>& chunks) {
  std::int64_t count = 0;
  for (const Chunk& chunk : chunks) count += targets_of(chunk);
  return count;
}

Packed::Packed(const Batch& batch, std::initializer_list<Decoder*> models) : models_(models) {
  for (Decoder* model : models_)
    if (model != nullptr && batch.packed) model->packing = &batch.packing;
}

Packed::~Packed() {
  for (Decoder* model : models_)
    if (model != nullptr) model->packing = nullptr;
}

}  // namespace attar
