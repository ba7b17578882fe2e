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

}  // namespace

TrainLog::TrainLog(const fs::path& folder, std::int64_t step) : folder_(folder) {
  std::vector<nlohmann::json> kept;
  if (step > 0 && fs::exists(folder / kTrainLog)) {
    std::istringstream old(read_text_file(folder / kTrainLog));
    for (std::string line; std::getline(old, line);) {
      // The last line may be cut short by a crash.
      nlohmann::json parsed = nlohmann::json::parse(line, nullptr, false);
      if (parsed.is_object() && parsed.value("step", step + 1) <= step) kept.push_back(std::move(parsed));
    }
  }
  lines_.open(folder / kTrainLog, std::ios::binary | std::ios::trunc);
  events_.open(folder / kEventFile, std::ios::binary | std::ios::trunc);
  write(events_, as_text(event_file_head(kept.empty() ? unix_seconds() : kept.front().value("time", 0.0))),
        folder_ / kEventFile);
  for (const auto& line : kept) {
    write(lines_, line.dump() + "\n", folder_ / kTrainLog);
    add_event(line);
  }
}

void TrainLog::add(const std::string& kind, std::int64_t step, const nlohmann::json& values) {
  nlohmann::json line = {{"kind", kind}, {"step", step}, {"time", unix_seconds()}};
  line.update(values);
  write(lines_, line.dump() + "\n", folder_ / kTrainLog);
  add_event(line);
}

void TrainLog::add_event(const nlohmann::json& line) {
  std::vector<std::pair<std::string, float>> scalars;
  const auto kind = line.value("kind", std::string("train"));
  for (const auto& [name, value] : line.items())
    if (value.is_number() && name != "step" && name != "time") scalars.emplace_back(kind + "/" + name, value.get<float>());
  const Bytes record = scalar_event(line.value("time", 0.0), line.value("step", std::int64_t{0}), scalars);
  write(events_, as_text(record), folder_ / kEventFile);
}

}  // namespace attar
