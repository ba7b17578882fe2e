#include "distill/tune_state.h"

#include "base/error.h"
#include "base/text.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr const char* kReached = "reached";           // which set is whole, and its notes
constexpr std::chrono::seconds kOften{10};            // not more often than this,
constexpr int kShare = 20;                            // nor for more than this part of the time

std::string part_of(bool second, const std::string& name) { return cat(second ? "b-" : "a-", name); }

}  // namespace

TuneState::TuneState(const fs::path& folder, const nlohmann::json& run, bool resume, std::vector<std::string> names,
                     std::function<Tensors(const std::string& name)> of)
    : folder_(folder, run, resume), names_(std::move(names)), of_(std::move(of)) {}

std::optional<nlohmann::json> TuneState::restore() {
  const auto reached = folder_.find(kReached);
  if (!reached) return {};
  const at::NoGradGuard no_grad;
  const bool second = reached->notes.at("second");
  for (const std::string& name : names_) {
    Tensors state = of_(name);
    const auto part = folder_.find(part_of(second, name));
    if (!part || part->tensors.size() != state.size())
      throw ResumeError(cat("cannot resume: the state of ", name, " in ", folder_.path().string(), " is missing; remove the folder to start again"));
    for (const Tensor& kept : part->tensors) state.at(kept.name).copy_(read_tensor(kept).view(state.at(kept.name).sizes()));
  }
  second_ = !second;
  return reached->notes;
}

bool TuneState::due() const {
  const auto passed = Clock::now() - saved_;
  return passed > kOften && passed > kShare * cost_;
}

void TuneState::save(const nlohmann::json& notes) {
  const auto start = Clock::now();
  for (const std::string& name : names_) {
    std::map<std::string, QuantizedTensor> state;
    for (const auto& [meaning, values] : of_(name))
      state.emplace(meaning, kept_floats({1, values.numel()}, {values.data_ptr<float>(), static_cast<std::size_t>(values.numel())}));
    folder_.store(part_of(second_, name), state, nlohmann::json::object());
  }
  nlohmann::json reached = notes;
  reached["second"] = second_;
  folder_.store(kReached, {}, reached);
  second_ = !second_;
  saved_ = Clock::now(), cost_ = saved_ - start;
}

}  // namespace attar
