// A model run half a layer at a time over calibration text, twice side by side: as it was, and with what is quantized so far.
//
// In memory are the weights of one half and the inputs of one wave of tokens. Hidden states are kept in files: in a folder, from
// which a run that was stopped goes on, or without a name.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "datasets/tokenizer.h"
#include "model/decoder.h"
#include "quantize/decoder_pool.h"
#include "quantize/gptq.h"

namespace attar {

enum class Half { kAttention, kMlp };

// Inputs held in memory at a time; fixed, so that sums do not depend on the threads.
constexpr std::int64_t kWaveTokens = 4096;

struct StreamsOptions {
  bool with_original = false;  // run the original too, beside the first wave of chunks; beside all for one of the next two
  bool targets = false;        // input_sums() also says what the original asks for
  bool again = false;          // error() is asked for: halves run again after the inputs of their last linear are known
  fs::path folder;             // for hidden states; empty: nowhere to resume from
  fs::path spill;              // without one, a folder on whose disk they are, without a name; empty: they are in memory
};

class Streams {
 public:
  // All chunks have one length. LibTorch must be set to one thread (set_up_torch(1)): chunks run in parallel here, and results do
  // not depend on the number of threads.
  Streams(const Checkpoint& model, const std::vector<Ids>& chunks, StreamsOptions options);

  // embedding: (vocab, hidden), quantized; only the rows of tokens that occur are read.
  void start(const Tensor& embedding);
  // Hidden states before layer `index` reach the disk. Returns their hash, by which resume() knows them again.
  std::string seal();
  void resume(std::int64_t index, const std::string& hash);  // throws ResumeError: missing, damaged

  // Reads the parameters of half a layer into memory, for both streams, and forgets the ones before. Hidden states that were sealed
  // stay what they are until the attention half of the layer after is entered.
  void enter(std::int64_t layer, Half half);
  const std::vector<std::string>& linear_weights() const { return linears_; }  // in the order their inputs come up
  const at::Tensor& weight(const std::string& name) const;  // original, float32
  void replace(const std::string& name, const at::Tensor& quantized);

  // linear: its weight's name. Runs every chunk as far as this linear. Says nothing of targets once the original has left the half.
  InputSums input_sums(const std::string& linear);
  std::vector<float> mean_squares(const std::string& linear);  // of x_q, by column
  // Carries the original's stream through the half, if it has not left it yet. enter() does where nobody asks for targets.
  void lead();
  // Once that is done: e A e^T, e = h_q - h_fp, of what comes out, summed over the tokens of these chunks (A as in output_metric.h;
  // undefined: I); and, added
  // to each of `gradients` (by weight name), what it changes by.
  double error(std::span<const std::size_t> chunks, const at::Tensor& A, std::map<std::string, at::Tensor>& gradients);
  std::size_t chunk_count() const { return chunks_.size(); }
  // Carries all streams through the half; the quantized one from its last linear on, where input_sums() has kept that one's inputs and
  // nothing before it was replaced since. Returns |h_q - h_fp|^2 / |h_fp|^2 of what comes out, as far as the original runs beside.
  double leave();

  // Of the output head's inputs; call after the last layer.
  InputSums final_sums();
  std::vector<float> final_mean_squares();

 private:
  using Weights = DecoderPool::Weights;
  enum Stream { kQuantized, kOriginal };
  using See = std::function<void(const at::Tensor& x)>;

  void with_worker(const Weights& weights, const std::function<void(Decoder&)>& work);
  // Runs a chunk from input_ as far as `linear` and shows its input; `through`: on to the end, into output_.
  void run(Stream stream, std::size_t chunk, const std::string& linear, bool through, const See& see);
  at::Tensor capture(Stream stream, const std::string& linear, std::size_t begin, std::size_t end);  // (tokens, columns)
  using Inputs = std::function<at::Tensor(Stream, std::size_t begin, std::size_t end)>;  // of chunks, (tokens, columns)
  bool targets() const { return options_.targets && !original_ahead_; }
  InputSums sums_of(std::int64_t columns, const Inputs& inputs);
  InputSums last_input_sums();
  void open_inputs();
  void keep_input(Stream stream, std::size_t chunk, const at::Tensor& x);
  at::Tensor kept_inputs(Stream stream, std::size_t begin, std::size_t end) const;  // (tokens, columns)
  void finish_from_inputs(std::size_t chunk);
  at::Tensor wanted(std::size_t begin, std::size_t end);
  at::Tensor normed(const at::Tensor& norm, Stream stream, std::size_t begin, std::size_t end);
  std::size_t wave() const { return static_cast<std::size_t>(std::max<std::int64_t>(1, kWaveTokens / length_)); }  // chunks
  void for_each_wave(const std::function<void(std::size_t begin, std::size_t end)>& work);
  std::vector<float> mean_squares_of(std::int64_t columns, const std::function<at::Tensor(std::size_t, std::size_t)>& inputs);

  at::Tensor load(const ScratchFile& file, Stream stream, std::size_t chunk) const;  // (1, length, hidden)
  void save(ScratchFile& file, Stream stream, std::size_t chunk, const at::Tensor& hidden) const;
  std::uint64_t chunk_bytes() const { return static_cast<std::uint64_t>(length_ * model_.config.hidden_size) * sizeof(float); }
  std::uint64_t hidden_bytes() const { return chunk_bytes() * (chunks_.size() + originals_); }  // of all streams
  ScratchFile unnamed() const;
  fs::path hidden_file(std::int64_t layer) const { return options_.folder / cat("hidden-", layer); }

  const Checkpoint& model_;
  std::int64_t length_;
  StreamsOptions options_;
  const std::vector<Ids>& chunks_;
  std::size_t originals_;  // chunks that the original runs beside, the first ones
  std::shared_ptr<ScratchFile> input_, output_;  // of this half; the same where nothing has to be kept
  std::int64_t layer_ = 0;
  Half half_ = Half::kAttention;
  std::vector<std::string> linears_;
  Weights weights_, original_weights_;
  bool original_ahead_ = false;                  // the original's stream has left this half already
  std::optional<ScratchFile> last_inputs_;       // of the half's last linear, stream by stream and chunk by chunk
  DecoderPool decoders_;
};

}  // namespace attar
