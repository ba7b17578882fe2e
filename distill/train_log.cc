#include "distill/train_log.h"

#include <chrono>
#include <sstream>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "distill/events.h"

namespace attar {
namespace {

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void write(std::ofstream& out, std::string_view bytes, const fs::path& path) {
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.flush();
  if (!out) fail("cannot write ", path.string(), "; is the disk full?");
}

Bytes event_of(const nlohmann::json& line) {
  std::vector<std::pair<std::string, float>> scalars;
  const auto kind = line.value("kind", std::string("train"));
  for (const auto& [name, value] : line.items())
    if (value.is_number() && name != "step" && name != "time") scalars.emplace_back(kind + "/" + name, value.get<float>());
  return scalar_event(line.value("time", 0.0), line.value("step", std::int64_t{0}), scalars);
}

}  // namespace

TrainLog::TrainLog(const fs::path& folder, std::int64_t step) : folder_(folder) {
  std::string kept;  // as they were written
  Bytes records;
  double began = unix_seconds();
  if (step >= 0 && fs::exists(folder / kTrainLog)) {
    std::istringstream old(read_text_file(folder / kTrainLog));
    for (std::string text; std::getline(old, text);) {
      // The last line may be cut short by a crash.
      const nlohmann::json line = nlohmann::json::parse(text, nullptr, false);
      if (!line.is_object() || line.value("step", step + 1) > step) continue;
      if (kept.empty()) began = line.value("time", 0.0);
      kept += text + "\n";
      const Bytes record = event_of(line);
      records.insert(records.end(), record.begin(), record.end());
    }
  }
  // Each file takes the place of the old one when it is whole: a crash here loses no line.
  write_text_file(folder / kTrainLog, kept);
  const Bytes head = event_file_head(began);
  write_text_file(folder / kEventFile, cat(as_text(head), as_text(records)));
  lines_.open(folder / kTrainLog, std::ios::binary | std::ios::app);
  events_.open(folder / kEventFile, std::ios::binary | std::ios::app);
}

void TrainLog::add(const std::string& kind, std::int64_t step, const nlohmann::json& values) {
  nlohmann::json line = {{"kind", kind}, {"step", step}, {"time", unix_seconds()}};
  line.update(values);
  write(lines_, line.dump() + "\n", folder_ / kTrainLog);
  write(events_, as_text(event_of(line)), folder_ / kEventFile);
}

}  // namespace attar
