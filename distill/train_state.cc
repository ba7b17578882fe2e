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

struct Part {
  const char* name;
  at::Tensor flat;
};

std::vector<Part> parts_of(const FlatParameters& parameters, const AdamW& optimizer, const at::Tensor& average) {
  std::vector<Part> parts = {{"weight", parameters.values()}, {"exp_avg", optimizer.m}, {"exp_avg_sq", optimizer.v}};
  if (average.defined()) parts.push_back({"average", average});
  return parts;
}

void check_run(const nlohmann::json& saved, const nlohmann::json& run, const std::filesystem::path& file) {
  for (const auto& [key, value] : run.items())
    if (!saved.contains(key) || saved[key] != value)
      fail("[distill] cannot resume from ", file.string(), ": ", key, " was ",
           saved.contains(key) ? saved[key].dump() : "not there", ", now it is ", value.dump(),
           "; ask for the same, or remove the folder to start again");
}

// Writes safetensors by itself: the library's writer stops when Ctrl-C was pressed, and that is when a state is saved.
void write_parts(const std::filesystem::path& file, const FlatParameters& parameters, const std::vector<Part>& parts,
                 const nlohmann::json& state) {
  nlohmann::ordered_json header = {{"__metadata__", {{kMetadataKey, state.dump()}}}};
  std::uint64_t offset = 0;
  for (const Part& part : parts) {
    for (const auto& slot : parameters.slots()) {
      const std::uint64_t end = offset + static_cast<std::uint64_t>(slot.count) * sizeof(float);
      header[cat(part.name, "/", slot.name)] = {{"dtype", "F32"}, {"shape", slot.shape}, {"data_offsets", {offset, end}}};
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
  for (const Part& part : parts) {
    const at::Tensor values = part.flat.cpu();
    for (const auto& slot : parameters.slots())
      out.write(ByteView(reinterpret_cast<const std::byte*>(values.data_ptr<float>() + slot.offset),
                         static_cast<std::size_t>(slot.count) * sizeof(float)));
  }
  out.commit();
}

void read_parts(const SafetensorsFile& saved, const std::filesystem::path& file, const FlatParameters& parameters,
                const std::vector<Part>& parts) {
  std::map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : saved.tensors) by_name[tensor.name] = &tensor;
  const at::NoGradGuard no_grad;
  for (const Part& part : parts) {
    for (const auto& slot : parameters.slots()) {
      const auto tensor = by_name.find(cat(part.name, "/", slot.name));
      if (tensor == by_name.end() || tensor->second->shape != slot.shape || tensor->second->type != Type::kF32)
        fail("[distill] ", file.string(), " does not hold ", part.name, " of ", slot.name, " as this student has it");
      std::vector<float> values = read_floats(*tensor->second);
      parameters.view(part.flat, slot).copy_(at::from_blob(values.data(), slot.shape, at::kFloat));
    }
  }
}

}  // namespace

void write_train_state(const std::filesystem::path& file, const FlatParameters& parameters, const AdamW& optimizer,
                       const at::Tensor& average, const TrainProgress& progress) {
  write_parts(file, parameters, parts_of(parameters, optimizer, average),
              {{"version", 2},
               {"done", progress.done},
               {"bad", progress.bad},
               {"updates", optimizer.steps},
               {"position", progress.position},
               {"run", progress.run},
               {"notes", progress.notes}});
}

TrainProgress read_train_state(const std::filesystem::path& file, FlatParameters& parameters, AdamW& optimizer,
                               const at::Tensor& average, const nlohmann::json& run) {
  const SafetensorsFile saved = read_safetensors(file);
  const auto found = saved.metadata.find(kMetadataKey);
  const auto state = found == saved.metadata.end() ? nlohmann::json() : nlohmann::json::parse(found->second, nullptr, false);
  TrainProgress progress;
  try {
    check_run(state.at("run"), run, file);
    progress = {state.at("done"), state.at("bad"), state.at("position"), state.at("run"), state.at("notes")};
    optimizer.steps = state.at("updates");
  } catch (const nlohmann::json::exception&) {
    fail("[distill] ", file.string(), " is not the state of a training run");
  }
  read_parts(saved, file, parameters, parts_of(parameters, optimizer, average));
  return progress;
}

void write_weights(const std::filesystem::path& file, const FlatParameters& parameters, const at::Tensor& flat) {
  write_parts(file, parameters, {{"weight", flat}}, nlohmann::json::object());
}

void read_weights(const std::filesystem::path& file, const FlatParameters& parameters, const at::Tensor& flat) {
  read_parts(read_safetensors(file), file, parameters, {{"weight", flat}});
}

}  // namespace attar
