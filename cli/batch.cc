#include "cli/batch.h"

#include <fstream>
#include <map>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "datasets/corpus.h"
#include "datasets/documents.h"
#include "datasets/lines.h"
#include "model/decoder.h"

namespace attar::cli {
namespace {

struct Prompts {
  std::vector<Ids> ids;
  std::vector<nlohmann::json> lines;   // {"text": ...} or {"messages": [...]}, which a text completes
  std::vector<std::int64_t> stop_ids;  // of the chat template
};

class PromptReader {
 public:
  PromptReader(const TextBatch& batch, const Tokenizer& tokenizer) : batch_(batch), tokenizer_(tokenizer) {}

  Prompts read() {
    if (!is_builtin_source(batch_.prompts) && is_jsonl(batch_.prompts)) {
      const MappedFile file(batch_.prompts);
      const std::string_view text = as_text(file.bytes());
      check_utf8(text, batch_.prompts);
      for_each_line(text, [&](std::string_view line, std::size_t number, std::size_t) {
        if (!is_blank(line) && !full()) add_line(parse_object(line, batch_.prompts, number), number);
      });
    } else {
      for (const std::string& document : read_documents(batch_.prompts))
        if (!full()) add_beginning(document);
    }
    if (prompts_.ids.empty()) fail(batch_.prompts, ": holds no prompt");
    return std::move(prompts_);
  }

 private:
  bool full() const { return batch_.limit > 0 && std::ssize(prompts_.ids) >= batch_.limit; }

  Ids with_bos(const Ids& ids, bool bos) const {
    Ids all;
    if (bos) all.push_back(tokenizer_.data().bos_id);
    all.insert(all.end(), ids.begin(), ids.end());
    return all;
  }
  void add_text(const Ids& ids, const std::string& text) {
    prompts_.ids.push_back(with_bos(ids, tokenizer_.data().add_bos));
    prompts_.lines.push_back({{"text", text}});
  }
  void add_beginning(const std::string& document) {
    Ids ids = tokenizer_.encode(document, false);
    if (std::ssize(ids) > batch_.prompt_tokens) ids.resize(static_cast<std::size_t>(batch_.prompt_tokens));
    std::string text = tokenizer_.decode(ids, true);
    while (find_invalid_utf8(text)) ids.pop_back(), text = tokenizer_.decode(ids, true);  // the middle of a character
    if (!ids.empty()) add_text(ids, text);
  }
  void add_line(nlohmann::json object, std::size_t number) {
    if (object.contains("messages") && object["messages"].is_array()) return add_messages(object["messages"], number);
    if (!object.contains("prompt")) return add_beginning(take_text(object, batch_.prompts, number));
    if (!object["prompt"].is_string() || object["prompt"].get_ref<const std::string&>().empty())
      fail(batch_.prompts, ": line ", number, ": \"prompt\" is no text; expected {\"prompt\": \"...\"}");
    const std::string text = object["prompt"];
    add_text(tokenizer_.encode(text, false), text);
  }
  void add_messages(const nlohmann::json& list, std::size_t number) {
    if (!form_) {
      form_ = checked_chat_form(tokenizer_, batch_.prompts);
      const Ids end = tokenizer_.encode(form_->assistant.after, false);
      if (!end.empty() && tokenizer_.is_special(end.front())) prompts_.stop_ids.push_back(end.front());
    }
    const std::vector<Message> messages = take_messages(list, batch_.prompts, number);
    try {
      if (messages.empty() || messages.back().role != "user") fail("the last message must be the user's, for the model to answer");
      ChatForm form = *form_;
      form.end.clear();
      const std::string text = render_chat(form, messages) + form.assistant.before;
      prompts_.ids.push_back(with_bos(tokenizer_.encode(text, false), form.bos));
    } catch (const Error& error) {
      fail(batch_.prompts, ": line ", number, ": ", error.what());
    }
    prompts_.lines.push_back({{"messages", list}});
  }

  const TextBatch& batch_;
  const Tokenizer& tokenizer_;
  std::optional<ChatForm> form_;
  Prompts prompts_;
};

nlohmann::json identity_of(const TextBatch& batch, const Checkpoint& model, const Prompts& prompts) {
  const GenerateOptions& g = batch.options.generate;
  return {{"model", checkpoint_hash(model)}, {"prompts", chunks_hash(prompts.ids)}, {"samples", batch.options.samples},
          {"seed", g.seed}, {"max-tokens", g.max_tokens}, {"temperature", g.sampling.temperature},
          {"top-k", g.sampling.top_k}, {"top-p", g.sampling.top_p}, {"stop", g.stop},
          {"min-tokens", batch.filter.min_tokens}, {"max-repetition", batch.filter.max_repetition},
          {"keep-unfinished", batch.filter.keep_unfinished}};
}

// What is on its way: a line that says what was asked, then one for each text in order, {"dropped": why} for those not kept.
class Unfinished {
 public:
  Unfinished(const TextBatch& batch, const nlohmann::json& identity) : path_(batch.output + ".unfinished") {
    std::string kept;
    if (fs::exists(path_)) {
      if (!batch.resume)
        fail("generate: ", path_.string(), " is there from a run that was ended; add --resume to go on with it, or remove it");
      kept = whole_lines(identity);
    } else {
      kept = identity.dump() + "\n";
    }
    write_text_file(path_, kept);
    out_.open(path_, std::ios::app | std::ios::binary);
  }

  std::int64_t done() const { return std::ssize(lines_); }
  void add(const nlohmann::json& line) {
    lines_.push_back(line.dump());
    out_ << lines_.back() << "\n" << std::flush;
    if (!out_) fail("generate: cannot write ", path_.string(), "; is the disk full?");
  }
  nlohmann::json finish(const std::string& output) {
    std::map<std::string, std::int64_t> dropped;
    std::int64_t kept = 0;
    OutputFile file(output);
    for (const std::string& text : lines_) {
      const auto line = nlohmann::json::parse(text);
      if (line.contains("dropped")) {
        ++dropped[line["dropped"]];
      } else {
        ++kept;
        file.write(text + "\n");
      }
    }
    file.commit();
    out_.close();
    fs::remove(path_);
    return {{"texts", done()}, {"kept", kept}, {"dropped", dropped}, {"output", output}};
  }

 private:
  // What a run wrote before it was ended; a line that it had only begun goes.
  std::string whole_lines(const nlohmann::json& identity) {
    const std::string text = read_text_file(path_);
    std::size_t end = 0;
    for (std::size_t newline; (newline = text.find('\n', end)) != std::string::npos; end = newline + 1) {
      const auto line = nlohmann::json::parse(std::string_view(text).substr(end, newline - end), nullptr, false);
      if (end == 0) {
        for (const auto& [key, value] : identity.items())
          if (!line.is_object() || !line.contains(key) || line[key] != value)
            fail("generate: ", path_.string(), " is of another run: ", key, " is now ", value.dump(), "; ask for the same, or remove it");
      } else {
        if (!line.is_object()) fail("generate: ", path_.string(), " is damaged; remove it to begin anew");
        lines_.push_back(line.dump());
      }
    }
    return end == 0 ? identity.dump() + "\n" : text.substr(0, end);
  }

  fs::path path_;
  std::vector<std::string> lines_;
  std::ofstream out_;
};

}  // namespace

nlohmann::json write_text_batch(const TextBatch& batch, const Checkpoint& model, const std::string& device) {
  if (fs::path(batch.output).extension() != ".jsonl") fail("generate: --batch writes a .jsonl file, not '", batch.output, "'");
  if (batch.prompt_tokens < 1) fail("generate: --prompt-tokens ", batch.prompt_tokens, ": expected at least 1");
  const Tokenizer tokenizer(model.tokenizer);
  const Prompts prompts = PromptReader(batch, tokenizer).read();
  const auto decoder = load_decoder(model, parse_device(device));
  TextBatch set = batch;
  auto& stop_ids = set.options.generate.stop_ids;
  stop_ids.insert(stop_ids.end(), prompts.stop_ids.begin(), prompts.stop_ids.end());
  Unfinished unfinished(set, identity_of(set, model, prompts));
  const std::int64_t samples = set.options.samples;
  Progress progress("generate", static_cast<std::uint64_t>(std::ssize(prompts.ids) * samples), "texts");
  progress.skip(static_cast<std::uint64_t>(unfinished.done()));
  generate_batch(*decoder, tokenizer, prompts.ids, unfinished.done(), set.options, [&](std::int64_t index, const Generated& text) {
    nlohmann::json line = prompts.lines[static_cast<std::size_t>(index / samples)];
    if (const std::string reason = reason_to_drop(text, set.filter); !reason.empty())
      line = {{"dropped", reason}};
    else if (line.contains("messages"))
      line["messages"].push_back({{"role", "assistant"}, {"content", text.text.substr(tokenizer.strips_leading_space() && text.text.starts_with(' '))}});
    else
      line["text"] = line["text"].get<std::string>() + text.text;
    unfinished.add(line);
    progress.advance(1);
  });
  return unfinished.finish(batch.output);
}

}  // namespace attar::cli
