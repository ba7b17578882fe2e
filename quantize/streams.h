// A model run layer by layer over calibration text, twice side by side: as it was, and with what is quantized so far.
//
// Only one layer's weights are in memory, and the hidden states of all chunks between two layers.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "datasets/tokenizer.h"
#include "model/decoder.h"
#include "quantize/gptq.h"

namespace attar {

class Streams {
 public:
  // with_original: keep the original's stream too. All chunks have one length. LibTorch must be set to one thread
  // (set_up_torch(1)): chunks run in parallel here, and results do not depend on the number of threads.
  Streams(const Checkpoint& model, const std::vector<Ids>& chunks, bool with_original);
  ~Streams();

  // embedding: (vocab, hidden) float32, quantized and decoded.
  void start(const at::Tensor& embedding);

  // Reads the parameters of layer `index` into memory, for both streams, and forgets the ones before.
  void enter_layer(std::int64_t index);
  std::vector<std::string> linear_weights();     // of this layer, in the order their inputs come up
  const at::Tensor& weight(const std::string& name) const;  // original, float32
  void replace(const std::string& name, const at::Tensor& quantized);

  // linear: its weight's name. Runs every chunk as far as this linear.
  InputSums input_sums(const std::string& linear);
  std::vector<float> mean_squares(const std::string& linear);  // of x_q, by column
  // Carries all streams through the layer. Returns |h_q - h_fp|^2 / |h_fp|^2 of what comes out; 0 with one stream.
  double leave_layer();

  // Of the output head's inputs; call after the last layer.
  InputSums final_sums();
  std::vector<float> final_mean_squares();

 private:
  struct Worker;
  using Weights = std::map<std::string, at::Tensor>;

  // What `linear` meets in chunks [begin, end).
  struct Captured {
    at::Tensor X;         // inputs (tokens, columns)
    at::Tensor residual;  // (tokens, rows); undefined where the output is not added to the residual stream directly
  };
  at::Tensor normed(const at::Tensor& norm, const std::vector<at::Tensor>& hidden, std::size_t begin, std::size_t end);
  Captured capture(const std::string& linear, const Weights& weights, const std::vector<at::Tensor>& hidden,
                   std::size_t begin, std::size_t end);
  std::vector<float> mean_of(const at::Tensor& sum) const;  // over all tokens
  void for_each_wave(const std::function<void(std::size_t begin, std::size_t end)>& work);
  void with_worker(const Weights& weights, const std::function<void(Decoder&)>& work);

  const Checkpoint& model_;
  std::int64_t length_;
  bool with_original_;
  std::vector<at::Tensor> ids_;                // (1, length) int64 each
  std::vector<at::Tensor> hidden_, original_;  // (1, length, hidden) each
  std::int64_t layer_ = -1;
  Weights weights_, original_weights_;         // of this layer
  std::vector<std::unique_ptr<Worker>> idle_;
  std::mutex mutex_;
};

}  // namespace attar
