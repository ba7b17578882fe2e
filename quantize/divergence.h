// What changing one tensor does to a model: to the outputs of the linear that it belongs to, and to what the model says.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "model/decoder.h"
#include "model/tensor.h"

namespace attar {

// Positions of a chunk whose predictions are compared.
struct Positions {
  std::int64_t begin = 0, end = 0;
};

// Mean KL(original || changed) over these positions of all chunks, which have one length. Chunks run in parallel, each on one thread:
// the same at any number of threads. Hidden states are kept before one layer, so asking for tensors in the order of the layers costs
// only the layers behind each.
class DivergenceMeter {
 public:
  // LibTorch must be set to one thread (OneTorchThread). `original` and `chunks` outlive this.
  DivergenceMeter(Decoder& original, const std::vector<Ids>& chunks, Positions positions);

  // With `value` in the place of the tensor of that name. Not below 0.
  double with(const std::string& name, const at::Tensor& value);
  double of(Decoder& changed);

  // |(Q - W) x|^2 / |W x|^2 over all tokens of the chunks, x what the original's linear meets; of an embedding, over the rows
  // looked up. value: (out_features, in_features).
  double output_error(const std::string& name, const at::Tensor& value);

 private:
  struct Squares {
    double error = 0, output = 0;
  };
  using Work = std::function<void(std::size_t chunk, Decoder& original, Decoder& changed)>;
  void for_each_chunk(Decoder& changed, const Work& work);
  void go_to(std::int64_t layer);
  double mean_from(Decoder& changed, std::int64_t layer);
  at::Tensor ids(std::size_t chunk) const { return tensor_of(chunks_[chunk]).unsqueeze(0); }
  at::Tensor scored(Decoder& decoder, const at::Tensor& hidden) const;
  std::int64_t layers() const { return original_.config().layers; }

  Decoder& original_;
  std::shared_ptr<Decoder> changed_;
  const std::vector<Ids>& chunks_;
  Positions positions_;
  std::vector<at::Tensor> final_;   // of the original, before its output projection: logits would be too large to keep
  std::vector<at::Tensor> hidden_;  // of the original, before layer_
  std::int64_t layer_ = 0;
};

}  // namespace attar
