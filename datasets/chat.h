// Conversations as a model was trained to see them.
//
// A chat template is a Jinja program. It is not run: its family is recognised by the marker tokens in it, and small differences
// inside a family by the literals around them. docs/calibration.md lists families and sources.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"

namespace attar {

struct Message {
  std::string role;     // "system", "user", "assistant"
  std::string content;
};

struct Around {
  std::string before, after;
};

enum class SystemPlace { kOwnTurn, kFirstUser, kLastUser, kNowhere };

struct ChatForm {
  const char* family = "";            // "ChatML"
  Around system, user, assistant;     // system: unused unless it is a turn of its own
  SystemPlace system_place = SystemPlace::kOwnTurn;
  std::string default_system;         // said where a conversation has no system message; empty: nothing
  std::string system_preamble;        // always said, before what the system message says
  bool trim = false;                  // white space around contents
  bool trim_answers = false;          // around the assistant's only
  bool alternate = false;             // user and assistant take turns
  bool think = false;                 // reasoning is a block of its own in the last answer, and cut from others
  bool bos = false;                   // begins with BOS, which render() leaves to the tokenizer
  std::string end;                    // after the last message
  std::vector<std::string> markers;   // must each be a token
};

// Of the tokenizer's chat template. Throws Error: there is none, or one of a family that is not known.
ChatForm chat_form(const TokenizerData& tokenizer, std::string_view subject);

// A piece of a conversation; learn: what the assistant says, up to the marker that ends it.
struct ChatPart {
  std::string text;
  bool learn = false;
};

// The conversation as text with special tokens spelt out, without BOS. Throws Error: no message, a role that is not known or not
// at its place, a system message where the family has none.
std::vector<ChatPart> render_chat_parts(const ChatForm& form, std::span<const Message> messages);
std::string render_chat(const ChatForm& form, std::span<const Message> messages);

}  // namespace attar
