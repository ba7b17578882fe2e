#include "distill/candidate_store.h"

#include <map>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

std::string part_of(std::size_t index) { return cat("candidate-", index + 1); }

nlohmann::json shape_notes(const StudentShape& shape) {
  return {{"layers", shape.layers}, {"hidden", shape.hidden}, {"ffn", shape.ffn}, {"heads", shape.heads}, {"kv_heads", shape.kv_heads},
          {"vocabulary", shape.vocabulary}};
}

}  // namespace

std::optional<TriedShape> CandidateStore::find(std::size_t index, const StudentShape& shape) {
  if (folder_ == nullptr) return {};
  const auto part = folder_->find(part_of(index));
  if (!part) return {};
  const nlohmann::json& notes = part->notes;
  if (notes.at("shape") != shape_notes(shape))
    throw ResumeError(cat("cannot resume: ", folder_->path().string(), " holds a candidate of another shape; remove the folder to start again"));
  if (notes.at("threads") != thread_count() && !warned_) {
    warned_ = true;
    warn(cat("[prune] the search began with --threads ", notes.at("threads").dump(), " and goes on with ", thread_count(),
             "; its result may differ in the last digits from that of one number of threads"));
  }
  return TriedShape{shape, notes.at("parameters"), notes.at("bytes"), notes.at("vocabulary_cost"), notes.at("kl_before"), notes.at("kl_after")};
}

void CandidateStore::load_weights(std::size_t index, Decoder& decoder) const {
  const auto part = folder_->find(part_of(index));
  std::map<std::string, const Tensor*> by_name;
  if (part)
    for (const Tensor& tensor : part->tensors) by_name[tensor.name] = &tensor;
  const at::NoGradGuard no_grad;
  for (const std::string& name : decoder.parameter_names()) {
    at::Tensor& parameter = decoder.parameter(name);
    const auto found = by_name.find(name);
    if (found == by_name.end() || found->second->shape != Shape(parameter.sizes().begin(), parameter.sizes().end()))
      throw ResumeError(cat("cannot resume: ", folder_->path().string(), " lacks weights of the best candidate; remove the folder to start again"));
    parameter.copy_(read_tensor(*found->second));
  }
}

void CandidateStore::keep(std::size_t index, const TriedShape& candidate, Decoder* decoder) const {
  if (folder_ == nullptr) return;
  std::map<std::string, QuantizedTensor> tensors;
  if (decoder != nullptr) {
    for (const std::string& name : decoder->parameter_names()) {
      const at::Tensor values = decoder->parameter(name).detach().to(at::kCPU, at::kFloat).contiguous();
      tensors[name] = kept_floats(values.sizes().vec(), {values.data_ptr<float>(), static_cast<std::size_t>(values.numel())});
    }
  }
  folder_->store(part_of(index), tensors,
                 {{"shape", shape_notes(candidate.shape)},
                  {"threads", thread_count()},
                  {"parameters", candidate.parameters},
                  {"bytes", candidate.bytes},
                  {"vocabulary_cost", candidate.vocabulary_cost},
                  {"kl_before", candidate.kl_before},
                  {"kl_after", candidate.kl_after}});
}

}  // namespace attar
