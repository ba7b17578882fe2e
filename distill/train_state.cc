#include "distill/train_state.h"

#include <algorithm>
#include <map>
#include <utility>
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
  at::Tensor values;       // of the parameters' layout, from element `begin` on: all of it, or this process's slice
  std::int64_t begin = 0;
};

std::vector<Part> parts_of(const FlatParameters& parameters, const AdamW& optimizer, const at::Tensor& average) {
  std::vector<Part> parts = {{"weight", parameters.values()}, {"exp_avg", optimizer.m, optimizer.begin()}, {"exp_avg_sq", optimizer.v, optimizer.begin()}};
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

// The elements [first, second) of the layout that a parameter and a slice have in common, none if first >= second.
std::pair<std::int64_t, std::int64_t> common(const FlatParameters::Slot& slot, std::int64_t begin, std::int64_t end) {
  return {std::max(slot.offset, begin), std::min(slot.offset + slot.count, end)};
}

// One parameter's elements of a part. Of a part in slices they come from the processes that own them: all make this call, and none holds
// more than one parameter of the others'.
at::Tensor gathered(const Part& part, const FlatParameters& parameters, const FlatParameters::Slot& slot, ProcessGroup* group) {
  const std::int64_t total = parameters.values().numel();
  if (part.values.numel() == total) return part.values.narrow(0, slot.offset, slot.count);
  const at::Tensor whole = at::empty({slot.count}, part.values.options());
  for (std::int64_t rank = 0; rank < group->size(); ++rank) {
    const auto [begin, end] = group->slice(total, rank);
    const auto [first, last] = common(slot, begin, end);
    if (first >= last) continue;
    at::Tensor piece = whole.narrow(0, first - slot.offset, last - first);
    if (rank == group->rank()) piece.copy_(part.values.narrow(0, first - part.begin, last - first));
    group->broadcast(piece, rank);
  }
  return whole;
}

// Writes safetensors by itself: the library's writer stops when Ctrl-C was pressed, and that is when a state is saved.
// Of several processes the first one writes.
void write_parts(const std::filesystem::path& file, const FlatParameters& parameters, const std::vector<Part>& parts,
                 const nlohmann::json& state, ProcessGroup* group) {
  const at::NoGradGuard no_grad;
  if (place_in(group).rank > 0) {
    for (const Part& part : parts)
      for (const auto& slot : parameters.slots()) gathered(part, parameters, slot, group);
    return;
  }
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
    for (const auto& slot : parameters.slots()) {
      const at::Tensor values = gathered(part, parameters, slot, group).cpu();
      out.write(ByteView(reinterpret_cast<const std::byte*>(values.data_ptr<float>()), static_cast<std::size_t>(slot.count) * sizeof(float)));
    }
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
      const auto [first, last] = common(slot, part.begin, part.begin + part.values.numel());
      if (first >= last) continue;
      std::vector<float> values = read_floats(*tensor->second);
      part.values.narrow(0, first - part.begin, last - first).copy_(at::from_blob(values.data() + (first - slot.offset), {last - first}, at::kFloat));
    }
  }
}

}  // namespace

void write_train_state(const std::filesystem::path& file, const FlatParameters& parameters, const AdamW& optimizer,
                       const at::Tensor& average, const TrainProgress& progress, ProcessGroup* group) {
  write_parts(file, parameters, parts_of(parameters, optimizer, average),
              {{"version", 2},
               {"done", progress.done},
               {"bad", progress.bad},
               {"updates", optimizer.steps},
               {"position", progress.position},
               {"run", progress.run},
               {"notes", progress.notes}},
              group);
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
  write_parts(file, parameters, {{"weight", flat}}, nlohmann::json::object(), nullptr);
}

void read_weights(const std::filesystem::path& file, const FlatParameters& parameters, const at::Tensor& flat) {
  read_parts(read_safetensors(file), file, parameters, {{"weight", flat}});
}

}  // namespace attar
