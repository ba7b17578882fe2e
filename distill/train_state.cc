#include "distill/train_state.h"

#include <map>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/files.h"
#include "convert/safetensors.h"

namespace attar {
namespace {

constexpr const char* kMetadataKey = "attar_training";
constexpr const char* kParts[] = {"weight", "exp_avg", "exp_avg_sq"};

void check_run(const nlohmann::json& saved, const nlohmann::json& run, const std::filesystem::path& file) {
  for (const auto& [key, value] : run.items())
    if (!saved.contains(key) || saved[key] != value)
      fail("[distill] cannot resume from ", file.string(), ": ", key, " was ",
           saved.contains(key) ? saved[key].dump() : "not there", ", now it is ", value.dump(),
           "; ask for the same, or remove the folder to start again");
}

}  // namespace

// Writes safetensors by itself: the library's writer stops when Ctrl-C was pressed, and that is when a state is saved.
void write_train_state(const std::filesystem::path& file, const FlatParameters& parameters, const AdamW& optimizer,
                       const TrainProgress& progress) {
  const at::Tensor flat[] = {parameters.values().cpu(), optimizer.m.cpu(), optimizer.v.cpu()};
  const nlohmann::json state = {{"version", 1},          {"done", progress.done},         {"bad", progress.bad},
                                {"updates", optimizer.steps}, {"position", progress.position}, {"run", progress.run}};
  nlohmann::ordered_json header = {{"__metadata__", {{kMetadataKey, state.dump()}}}};
  std::uint64_t offset = 0;
  for (const char* part : kParts) {
    for (const auto& slot : parameters.slots()) {
      const std::uint64_t end = offset + static_cast<std::uint64_t>(slot.count) * sizeof(float);
      header[cat(part, "/", slot.name)] = {{"dtype", "F32"}, {"shape", slot.shape}, {"data_offsets", {offset, end}}};
      offset = end;
    }
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  ByteWriter length;
  length.write(static_cast<std::uint64_t>(text.size()));
  OutputFile out(file);
  out.write(length.bytes());
  out.write(text);
  for (const at::Tensor& values : flat)
    for (const auto& slot : parameters.slots())
      out.write(ByteView(reinterpret_cast<const std::byte*>(values.data_ptr<float>() + slot.offset),
                         static_cast<std::size_t>(slot.count) * sizeof(float)));
  out.commit();
}

TrainProgress read_train_state(const std::filesystem::path& file, FlatParameters& parameters, AdamW& optimizer,
                               const nlohmann::json& run) {
  const SafetensorsFile saved = read_safetensors(file);
  const auto found = saved.metadata.find(kMetadataKey);
  const auto state = found == saved.metadata.end() ? nlohmann::json() : nlohmann::json::parse(found->second, nullptr, false);
  TrainProgress progress;
  try {
    check_run(state.at("run"), run, file);
    progress = {state.at("done"), state.at("bad"), state.at("position"), state.at("run")};
    optimizer.steps = state.at("updates");
  } catch (const nlohmann::json::exception&) {
    fail("[distill] ", file.string(), " is not the state of a training run");
  }
  std::map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : saved.tensors) by_name[tensor.name] = &tensor;
  at::Tensor* const targets[] = {&parameters.values(), &optimizer.m, &optimizer.v};
  const at::NoGradGuard no_grad;
  for (int part = 0; part < 3; ++part) {
    for (const auto& slot : parameters.slots()) {
      const auto tensor = by_name.find(cat(kParts[part], "/", slot.name));
      if (tensor == by_name.end() || tensor->second->shape != slot.shape || tensor->second->type != Type::kF32)
        fail("[distill] ", file.string(), " does not hold ", kParts[part], " of ", slot.name, " as this student has it");
      std::vector<float> values = read_floats(*tensor->second);
      parameters.view(*targets[part], slot).copy_(at::from_blob(values.data(), slot.shape, at::kFloat));
    }
  }
  return progress;
}

}  // namespace attar
