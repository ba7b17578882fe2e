#include "datasets/chat.h"

#include "base/error.h"

namespace attar {
namespace {

// A chat template, and what stands in it. Newlines in its literals may be spelt \n.
class Template {
 public:
  explicit Template(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool newline = text.substr(i, 2) == "\\n";
      text_ += newline ? '\n' : text[i];
      i += newline;
    }
  }
  bool has(std::string_view part) const { return text_.find(part) != std::string::npos; }
  // What stands between the first `before` and the `after` that follows, if it is one literal; else empty.
  std::string between(std::string_view before, std::string_view after) const {
    for (std::size_t at = text_.find(before); at != std::string::npos; at = text_.find(before, at + 1)) {
      const std::size_t begin = at + before.size(), end = text_.find(after, begin);
      if (end == std::string::npos) return "";
      const std::string part = text_.substr(begin, end - begin);
      if (!part.empty() && part.find_first_of("{}'\"") == std::string::npos) return part;
    }
    return "";
  }

 private:
  std::string text_;
};

std::string token_text(const TokenizerData& tokenizer, std::int64_t id) {
  return id >= 0 && static_cast<std::size_t>(id) < tokenizer.size() ? tokenizer.tokens[static_cast<std::size_t>(id)] : "";
}

// Each role's turn, its name between two markers.
void set_turns(ChatForm& form, std::string_view before, std::string_view between, std::string_view after, std::string_view assistant = "assistant") {
  form.system = {cat(before, "system", between), std::string(after)};
  form.user = {cat(before, "user", between), std::string(after)};
  form.assistant = {cat(before, assistant, between), std::string(after)};
}

ChatForm phi4(const Template&, const TokenizerData&) {
  ChatForm form{"Phi-4"};
  set_turns(form, "<|im_start|>", "<|im_sep|>", "<|im_end|>");
  form.markers = {"<|im_start|>", "<|im_sep|>", "<|im_end|>"};
  return form;
}

// Qwen2, Qwen2.5 and SmolLM2 say who they are unless told otherwise; Qwen3 has room for reasoning.
ChatForm chatml(const Template& text, const TokenizerData&) {
  ChatForm form{"ChatML"};
  set_turns(form, "<|im_start|>", "\n", "<|im_end|>\n");
  form.default_system = text.between("<|im_start|>system\n", "<|im_end|>");
  form.think = text.has("reasoning_content") && text.has("<think>");
  form.markers = {"<|im_start|>", "<|im_end|>"};
  return form;
}

// From 3.1 on dates come first; the day of the template, not today's, so that the same text gives the same tokens.
ChatForm llama3(const Template& text, const TokenizerData&) {
  ChatForm form{"Llama-3"};
  set_turns(form, "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>");
  form.trim = true;
  const std::string knowledge = text.between("\"Cutting Knowledge Date: ", "\n"), day = text.between("date_string = \"", "\"");
  if (!knowledge.empty()) form.system_preamble = cat("Cutting Knowledge Date: ", knowledge, "\nToday Date: ", day, "\n\n");
  form.markers = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
  return form;
}

ChatForm phi3(const Template& text, const TokenizerData& tokenizer) {
  ChatForm form{"Phi-3"};
  const bool lines = text.has("<|end|>\n") || text.has("'<|end|>' + '\n'");
  set_turns(form, "<|", lines ? "|>\n" : "|>", lines ? "<|end|>\n" : "<|end|>");
  if (text.has("eos_token")) form.end = token_text(tokenizer, tokenizer.eos_id);
  form.markers = {"<|user|>", "<|assistant|>", "<|end|>"};
  return form;
}

ChatForm gemma(const Template& text, const TokenizerData&) {
  ChatForm form{"Gemma"};
  set_turns(form, "<start_of_turn>", "\n", "<end_of_turn>\n", "model");
  form.system_place = text.has("first_user_prefix") ? SystemPlace::kFirstUser : SystemPlace::kNowhere;
  form.trim = form.alternate = true;
  form.markers = {"<start_of_turn>", "<end_of_turn>"};
  return form;
}

// Spaces differ from version to version, and decide the tokens.
ChatForm mistral(const Template& text, const TokenizerData& tokenizer) {
  ChatForm form{"Mistral"};
  const auto spaced = [&](std::string_view single, std::string_view twice) { return text.has(single) || text.has(twice) ? " " : ""; };
  form.user = {cat(spaced("' [INST]", "\" [INST]"), "[INST]", spaced("[INST] '", "[INST] \"")), cat(spaced("' [/INST]", "\" [/INST]"), "[/INST]")};
  form.assistant = {spaced("' ' + message", "\" \" + message"), cat(token_text(tokenizer, tokenizer.eos_id), spaced("eos_token + ' '", "eos_token + \" \""))};
  form.trim_answers = text.has("|trim + eos_token") || text.has("| trim + eos_token");
  form.alternate = true;
  if (text.has("[SYSTEM_PROMPT]")) {
    form.system = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"};
    form.markers = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"};
  } else {
    form.system_place = !text.has("system_message") ? SystemPlace::kNowhere
                        : text.has("loop.last and system_message") ? SystemPlace::kLastUser
                                                                    : SystemPlace::kFirstUser;
  }
  return form;
}

// A family is known by the marker that only it has; the first that fits.
struct Family {
  const char* marker;
  const char* not_with;  // nullptr: with anything
  ChatForm (*form)(const Template&, const TokenizerData&);
};
constexpr Family kFamilies[] = {
    {"<|im_sep|>", nullptr, phi4},          {"<|im_start|>", nullptr, chatml},    {"<|start_header_id|>", nullptr, llama3},
    {"<start_of_turn>", nullptr, gemma},    {"[INST]", "<<SYS>>", mistral},       {"<|end|>", "<|channel|>", phi3},
};

std::string trimmed(std::string_view text, std::string_view what = " \t\r\n\f\v") {
  const std::size_t begin = text.find_first_not_of(what);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(what) + 1 - begin));
}

// Qwen3: what was thought before an earlier answer is forgotten, before the last it has its block, filled or not.
std::string with_thoughts(const std::string& content, bool last) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  std::string thoughts, answer = content;
  if (const std::size_t close = content.rfind(kClose); close != std::string::npos) {
    answer = content.substr(close + kClose.size());
    answer.erase(0, std::min(answer.find_first_not_of('\n'), answer.size()));
    const std::size_t open = content.rfind(kOpen, close);
    const std::size_t begin = open == std::string::npos ? 0 : open + kOpen.size();
    thoughts = trimmed(std::string_view(content).substr(begin, close - begin), "\n");
  }
  return last ? cat(kOpen, "\n", thoughts, "\n", kClose, "\n\n", answer) : answer;
}

}  // namespace

ChatForm chat_form(const TokenizerData& tokenizer, std::string_view subject) {
  if (tokenizer.chat_template.empty())
    fail(subject, ": messages need a chat template, and the model's tokenizer has none; give lines with \"text\" instead");
  const Template text(tokenizer.chat_template);
  for (const Family& family : kFamilies) {
    if (!text.has(family.marker) || (family.not_with != nullptr && text.has(family.not_with))) continue;
    ChatForm form = family.form(text, tokenizer);
    form.bos = tokenizer.bos_id >= 0 && (tokenizer.add_bos || text.has("bos_token"));
    return form;
  }
  fail(subject, ": the model's chat template is of no family that is known (ChatML and Qwen, Llama-3, Mistral, Phi, Gemma); give lines "
       "with \"text\", with its special tokens spelt out, instead");
}

std::vector<ChatPart> render_chat_parts(const ChatForm& form, std::span<const Message> messages) {
  if (messages.empty()) fail("no messages");
  std::string system = messages.front().role == "system" ? messages.front().content : form.default_system;
  const auto rest = messages.subspan(messages.front().role == "system" ? 1 : 0);
  if (form.trim && form.system_place == SystemPlace::kOwnTurn) system = trimmed(system);
  system = form.system_preamble + system;
  if (rest.size() != messages.size() && form.system_place == SystemPlace::kNowhere)
    fail("a system message, which ", form.family, "'s template does not take");

  std::size_t system_user = rest.size();  // the message that begins with the system's
  for (std::size_t i = 0; i < rest.size(); ++i)
    if (rest[i].role == "user" && (system_user == rest.size() || form.system_place == SystemPlace::kLastUser)) system_user = i;
  std::vector<ChatPart> parts;
  const auto say = [&](const std::string& text, bool learn) {
    if (parts.empty() || parts.back().learn != learn) parts.push_back({"", learn});
    parts.back().text += text;
  };
  if (form.system_place == SystemPlace::kOwnTurn && (!system.empty() || rest.size() != messages.size()))
    say(form.system.before + system + form.system.after, false);
  for (std::size_t i = 0; i < rest.size(); ++i) {
    const Message& message = rest[i];
    const bool user = message.role == "user";
    if (!user && message.role != "assistant")
      fail("role \"", message.role, "\" in message ", i + 1 + messages.size() - rest.size(), "; expected user or assistant, or system first");
    if (form.alternate && user != (i % 2 == 0))
      fail(form.family, "'s template wants user and assistant to take turns, user first; two of \"", message.role, "\" or a wrong start at message ",
           i + 1 + messages.size() - rest.size());
    std::string content = form.trim || (form.trim_answers && !user) ? trimmed(message.content) : message.content;
    const bool last = i + 1 == rest.size();
    if (!user && form.think) content = with_thoughts(content, last);
    if (form.system_place != SystemPlace::kOwnTurn && i == system_user && !system.empty()) content = system + "\n\n" + content;
    const Around& around = user ? form.user : form.assistant;
    say(around.before, false);
    say(content + around.after, !user);
    if (last && !form.end.empty()) say(form.end, !user);
  }
  return parts;
}

std::string render_chat(const ChatForm& form, std::span<const Message> messages) {
  std::string text;
  for (const ChatPart& part : render_chat_parts(form, messages)) text += part.text;
  return text;
}

}  // namespace attar
