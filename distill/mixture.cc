// Several sources in given shares.
#include <charconv>
#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "distill/data.h"

namespace attar {
namespace {

struct Weighted {
  std::string source;
  double weight = 1.0;
};

// The part after the last colon is a weight if it is a number; a file of that very name goes before.
Weighted parse_weighted(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(text)) return {text, 1.0};
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  double weight = 0;
  const auto [stop, error] = std::from_chars(begin, end, weight);
  if (error != std::errc() || stop != end) return {text, 1.0};
  if (!(weight > 0) || !std::isfinite(weight))
    fail("[training data] ", text, ": a weight must be above 0; leave the source out instead");
  return {text.substr(0, colon), weight};
}

// The next chunk comes from the source that is furthest behind its share.
class Mixture : public ChunkSource {
 public:
  Mixture(std::vector<std::unique_ptr<ChunkSource>> sources, std::vector<double> weights)
      : sources_(std::move(sources)), weights_(std::move(weights)), taken_(sources_.size(), 0) {
    identity = "mixture";
    for (std::size_t i = 0; i < sources_.size(); ++i) identity += cat(" | ", weights_[i], " of ", sources_[i]->identity);
    gather_skips();
  }

  Chunk next() override {
    std::size_t best = 0;
    for (std::size_t i = 1; i < sources_.size(); ++i)
      if (due(i) < due(best)) best = i;
    ++taken_[best];
    Chunk chunk = sources_[best]->next();
    gather_skips();
    return chunk;
  }
  nlohmann::json position() const override {
    nlohmann::json parts = nlohmann::json::array();
    for (const auto& source : sources_) parts.push_back(source->position());
    return {{"taken", taken_}, {"sources", parts}};
  }
  void seek(const nlohmann::json& position) override {
    const auto taken = position.value("taken", std::vector<std::uint64_t>{});
    const auto parts = position.value("sources", nlohmann::json::array());
    if (taken.size() != sources_.size() || parts.size() != sources_.size())
      fail("[training data] ", position.dump(), " is not a place in these ", sources_.size(), " sources");
    for (std::size_t i = 0; i < sources_.size(); ++i) sources_[i]->seek(parts[i]);
    taken_ = taken;
    gather_skips();
  }

 private:
  // When the source's next chunk should come, in chunks of weight 1 (the divisor method of Webster).
  double due(std::size_t i) const { return (static_cast<double>(taken_[i]) + 0.5) / weights_[i]; }
  void gather_skips() {
    skips = {};
    for (const auto& source : sources_) skips += source->skips;
  }

  std::vector<std::unique_ptr<ChunkSource>> sources_;
  std::vector<double> weights_;
  std::vector<std::uint64_t> taken_;
};

}  // namespace

std::string source_of(const std::string& weighted) { return parse_weighted(weighted).source; }

std::unique_ptr<ChunkSource> open_mixture(const std::vector<std::string>& sources, const Tokenizer& tokenizer,
                                          const ChunkOptions& options) {
  if (sources.empty()) fail("[training data] no source is given");
  std::vector<std::unique_ptr<ChunkSource>> parts;
  std::vector<double> weights;
  for (const std::string& text : sources) {
    const auto [source, weight] = parse_weighted(text);
    parts.push_back(open_chunks(source, tokenizer, options));
    weights.push_back(weight);
  }
  if (parts.size() == 1) return std::move(parts.front());
  return std::make_unique<Mixture>(std::move(parts), std::move(weights));
}

}  // namespace attar
