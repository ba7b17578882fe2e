#include "datasets/chat.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "datasets/corpus.h"
#include "tests/convert/bytes.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::error_of;

using Messages = std::vector<Message>;

// The conversation of llama.cpp's tests/test-chat-template.cpp, with an answer at its end.
const Messages kTalk = {{"system", "You are a helpful assistant"}, {"user", "Hello"},       {"assistant", "Hi there"},
                        {"user", "Who are you"},                   {"assistant", "   I am an assistant   "}};
const Messages kTalkAlone(kTalk.begin() + 1, kTalk.end());

// Literals as they stand in the published templates (tokenizer_config.json of the models named); loops and tools left out.
constexpr const char* kOpenHermes =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";
constexpr const char* kQwen2 =
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}";
constexpr const char* kQwen3 =
    "{%- set reasoning_content = message.reasoning_content %}{{- '<|im_start|>' + message.role + '\\n<think>\\n' + "
    "reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}{{- '<|im_end|>\\n' }}";
constexpr const char* kLlama3 =
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}";
constexpr const char* kMistral02 =
    "{{ bos_token }}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == "
    "'assistant' %}{{ message['content'] + eos_token}}{% endif %}";
constexpr const char* kMistral03 =
    "{{- bos_token }}{%- if loop.last and system_message is defined %}{{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + "
    "\"[/INST]\" }}{%- else %}{{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}{{- \" \" + message[\"content\"]|trim + eos_token}}";
constexpr const char* kMistralNemo =
    "{{- bos_token }}{%- if loop.last and system_message is defined %}{{- \"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"] + "
    "\"[/INST]\" }}{%- else %}{{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}{{- message[\"content\"] + eos_token}}";
constexpr const char* kMistralSmall =
    "{{- bos_token }}{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{{- '[INST]' + message['content'] + '[/INST]' }}"
    "{{- message['content'] + eos_token }}";
constexpr const char* kPhi35 =
    "{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{{'<|assistant|>\\n' + "
    "message['content'] + '<|end|>\\n'}}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}";
constexpr const char* kPhi4Mini =
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}"
    "{{ eos_token }}{% endif %}";
constexpr const char* kPhi4 =
    "{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}{{message['content'] + '<|im_end|>'}}";
constexpr const char* kGemma2 =
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}";
constexpr const char* kGemma3 =
    "{{ bos_token }}{%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}{{ '<start_of_turn>' + role + '\\n' + "
    "(first_user_prefix if loop.first else \"\") }}{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}";

ChatForm form_of(const std::string& chat_template, bool add_bos = false) {
  TokenizerData data;
  data.tokens = {"<unk>", "<s>", "</s>"};
  data.bos_id = 1;
  data.eos_id = 2;
  data.add_bos = add_bos;
  data.chat_template = chat_template;
  return chat_form(data, "test");
}
std::string rendered(const char* chat_template, const Messages& messages) { return render_chat(form_of(chat_template), messages); }

TEST(Chat, ChatMlAndQwen) {
  const std::string talk =
      "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi there<|im_end|>\n<|im_start|>user\nWho are you<|im_end|>\n"
      "<|im_start|>assistant\n   I am an assistant   <|im_end|>\n";
  EXPECT_EQ(rendered(kOpenHermes, kTalkAlone), talk);
  EXPECT_EQ(rendered(kOpenHermes, kTalk), "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n" + talk);
  EXPECT_EQ(rendered(kQwen2, kTalkAlone), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + talk);
  EXPECT_EQ(rendered(kQwen2, kTalk), "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n" + talk);
  EXPECT_FALSE(form_of(kOpenHermes).bos);
  EXPECT_TRUE(form_of(kOpenHermes, true).bos);
}

TEST(Chat, Qwen3ThinksBeforeTheLastAnswerOnly) {
  const Messages talk = {{"user", "2+2?"}, {"assistant", "<think>\nEasy.\n</think>\n\n4"}, {"user", "And 3+3?"}, {"assistant", "6"}};
  EXPECT_EQ(rendered(kQwen3, talk),
            "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nAnd 3+3?<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n6<|im_end|>\n");
  EXPECT_EQ(rendered(kQwen3, {talk[0], talk[1]}),
            "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\nEasy.\n</think>\n\n4<|im_end|>\n");
}

TEST(Chat, Llama3) {
  const std::string talk =
      "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi there<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nWho are you<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nI am an "
      "assistant<|eot_id|>";
  EXPECT_EQ(rendered(kLlama3, kTalkAlone), talk);
  EXPECT_EQ(rendered(kLlama3, kTalk), "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant<|eot_id|>" + talk);
  EXPECT_TRUE(form_of(kLlama3).bos);
}

TEST(Chat, MistralOfEveryVersion) {
  EXPECT_EQ(rendered(kMistral02, kTalkAlone), "[INST] Hello [/INST]Hi there</s>[INST] Who are you [/INST]   I am an assistant   </s>");
  EXPECT_EQ(rendered(kMistral03, kTalk),
            "[INST] Hello[/INST] Hi there</s>[INST] You are a helpful assistant\n\nWho are you[/INST] I am an assistant</s>");
  EXPECT_EQ(rendered(kMistralNemo, kTalkAlone), "[INST]Hello[/INST]Hi there</s>[INST]Who are you[/INST]   I am an assistant   </s>");
  EXPECT_EQ(rendered(kMistralSmall, kTalk),
            "[SYSTEM_PROMPT]You are a helpful assistant[/SYSTEM_PROMPT][INST]Hello[/INST]Hi there</s>[INST]Who are you[/INST]   I am an "
            "assistant   </s>");
  EXPECT_HAS(error_of([] { rendered(kMistral02, kTalk); }), "a system message, which Mistral's template does not take");
  EXPECT_HAS(error_of([] { rendered(kMistral02, {{"user", "a"}, {"user", "b"}}); }), "message 2");
}

TEST(Chat, PhiOfEveryVersion) {
  EXPECT_EQ(rendered(kPhi35, kTalk),
            "<|system|>\nYou are a helpful assistant<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi there<|end|>\n<|user|>\nWho are "
            "you<|end|>\n<|assistant|>\n   I am an assistant   <|end|>\n</s>");
  EXPECT_EQ(rendered(kPhi4Mini, kTalkAlone),
            "<|user|>Hello<|end|><|assistant|>Hi there<|end|><|user|>Who are you<|end|><|assistant|>   I am an assistant   <|end|></s>");
  EXPECT_EQ(rendered(kPhi4, kTalk),
            "<|im_start|>system<|im_sep|>You are a helpful assistant<|im_end|><|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>"
            "assistant<|im_sep|>Hi there<|im_end|><|im_start|>user<|im_sep|>Who are you<|im_end|><|im_start|>assistant<|im_sep|>   I am "
            "an assistant   <|im_end|>");
}

TEST(Chat, Gemma) {
  const std::string answer =
      "<start_of_turn>model\nHi there<end_of_turn>\n<start_of_turn>user\nWho are you<end_of_turn>\n<start_of_turn>model\nI am an "
      "assistant<end_of_turn>\n";
  EXPECT_EQ(rendered(kGemma2, kTalkAlone), "<start_of_turn>user\nHello<end_of_turn>\n" + answer);
  EXPECT_EQ(rendered(kGemma3, kTalk), "<start_of_turn>user\nYou are a helpful assistant\n\nHello<end_of_turn>\n" + answer);
  EXPECT_HAS(error_of([] { rendered(kGemma2, kTalk); }), "a system message");
  EXPECT_TRUE(form_of(kGemma2).bos);
}

TEST(Chat, UnknownTemplatesAndRolesAreRefused) {
  EXPECT_HAS(error_of([] { form_of(""); }), "the model's tokenizer has none");
  EXPECT_HAS(error_of([] { form_of("{{ '### Instruction: ' + message.content }}"); }), "of no family that is known");
  EXPECT_HAS(error_of([] { form_of("{{ '[INST] <<SYS>>' + system + ' [/INST]' }}"); }), "of no family that is known");
  EXPECT_HAS(error_of([] { rendered(kOpenHermes, {{"user", "a"}, {"tool", "b"}}); }), "role \"tool\" in message 2");
  EXPECT_HAS(error_of([] { rendered(kOpenHermes, {{"user", "a"}, {"system", "b"}}); }), "role \"system\" in message 2");
  EXPECT_HAS(error_of([] { rendered(kOpenHermes, {}); }), "no messages");
}

// With the real tokenizers and templates: what Jinja renders without a clock, ids of marker tokens from their added_tokens.
TEST(Chat, RealTokenizersSeeMarkersAsTokens) {
  const auto qwen = test::shared("tokenizers/qwen2_5"), llama = test::shared("tokenizers/llama3_2");
  SKIP_WITHOUT(qwen);
  SKIP_WITHOUT(llama);
  const test::TempFolder folder;
  const std::string source = (folder / "chat.jsonl").string();
  std::ofstream(source) << R"({"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello world"}]})" << "\n";
  const Tokenizer of_qwen = load_tokenizer(qwen), of_llama = load_tokenizer(llama);
  const std::vector<Ids> q = read_token_documents(of_qwen, source);
  ASSERT_EQ(q.size(), 1u);
  EXPECT_EQ(of_qwen.decode(q[0], true),
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHello world<|im_end|>\n");
  constexpr std::int64_t kStart = 151644, kEnd = 151645;
  EXPECT_EQ(q[0].front(), kStart);
  EXPECT_EQ(std::count(q[0].begin(), q[0].end(), kStart), 3);
  EXPECT_EQ(std::count(q[0].begin(), q[0].end(), kEnd), 3);
  const std::vector<Ids> l = read_token_documents(of_llama, source);
  ASSERT_EQ(l.size(), 1u);
  EXPECT_EQ(of_llama.decode(l[0], true),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul "
            "2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
            "\n\nHello world<|eot_id|>");
  EXPECT_EQ(l[0][0], 128000);
  EXPECT_EQ(l[0][1], 128006);
  EXPECT_EQ(l[0].back(), 128009);
  EXPECT_EQ(std::count(l[0].begin(), l[0].end(), 128000), 1) << "BOS once";
}

class TokenDocuments : public testing::Test {
 protected:
  std::vector<Ids> read(const std::string& lines) {
    std::ofstream(file_, std::ios::trunc) << lines;
    return read_token_documents(tokenizer_, file_);
  }
  std::string refused(const std::string& lines) {
    return error_of([&] { read(lines); });
  }

  test::TempFolder folder_;
  std::string file_ = (folder_ / "a.jsonl").string();
  TokenizerData data_ = [] {
    TokenizerData data = test::small_byte_bpe();
    test::add_special(data, "<|im_start|>");
    test::add_special(data, "<|im_end|>");
    data.chat_template = kOpenHermes;
    return data;
  }();
  Tokenizer tokenizer_{data_};
};

TEST_F(TokenDocuments, TextChatAndIdsInOneFile) {
  EXPECT_EQ(read("{\"text\": \"ab\"}\n\n{\"input_ids\": [5, 264, 0]}\n"
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n"),
            (std::vector<Ids>{{'a', 'b', 262}, {5, 264, 0}, {263, 'u', 's', 'e', 'r', '\n', 'a', 264, '\n'}}));
}

TEST_F(TokenDocuments, ErrorsNameTheLine) {
  EXPECT_HAS(refused("{\"input_ids\": [1]}\n{\"input_ids\": [1, 265]}"), "a.jsonl: line 2: \"input_ids\" holds 265 at place 2; the tokenizer knows ids 0 to 264");
  EXPECT_HAS(refused("{\"input_ids\": [-1]}"), "line 1: \"input_ids\" holds -1");
  EXPECT_HAS(refused("{\"input_ids\": [1.5]}"), "line 1: \"input_ids\" holds 1.5");
  EXPECT_HAS(refused("\n{\"messages\": [{\"role\": \"bot\", \"content\": \"a\"}]}"), "line 2: role \"bot\" in message 1");
  EXPECT_HAS(refused("{\"messages\": [{\"role\": \"user\", \"content\": [1]}]}"), "line 1: message 1 is not");
  EXPECT_HAS(refused("{\"messages\": []}"), "line 1: no messages");
  EXPECT_HAS(refused("{\"messages\": 3}"), "line 1 has neither");
  EXPECT_HAS(refused("{\"text\": 3}"), "line 1 has no \"text\" that is a string");
  EXPECT_HAS(refused("\n"), "holds no text");
  data_.chat_template = kLlama3;
  const Tokenizer other(data_);
  std::ofstream(file_, std::ios::trunc) << "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
  EXPECT_HAS(error_of([&] { read_token_documents(other, file_); }), "<|start_header_id|> is no token of its tokenizer");
}

}  // namespace
}  // namespace attar
