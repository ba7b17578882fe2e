#include "model/generate.h"

#include "base/text.h"
#include "convert/pretokenizers.h"
#include "model/decoder.h"
#include "model/tensor.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

std::string utf8(int code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  return {static_cast<char>(0xc0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3f))};
}

// Byte-level BPE without merges: id b is byte b, in GPT-2's alphabet (printable bytes stand for themselves, the others for
// code points from 256 on); id 256 ends the text.
Tokenizer byte_tokenizer() {
  TokenizerData data;
  data.kind = TokenizerKind::kByteBpe;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    data.tokens.push_back(utf8(printable ? byte : next++));
    data.types.push_back(TokenType::kNormal);
  }
  data.tokens.push_back("<end>");
  data.types.push_back(TokenType::kControl);
  data.added.push_back({256, "<end>", true});
  data.eos_id = 256;
  data.pre = "gpt-2";
  data.split_regexes = find_pretokenizer(data.pre).regexes;
  return Tokenizer(std::move(data));
}

std::shared_ptr<Decoder> byte_decoder(std::uint64_t seed = 11) {
  ModelConfig config = test::tiny_config(Family::kLlama);
  config.vocab_size = 257;
  return test::tiny_decoder(config, seed);
}

Ids bytes_of(std::string_view text) {
  Ids ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

TEST(Generate, GreedyIsTheArgmaxOfTheForward) {
  const auto decoder = byte_decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  GenerateOptions options;
  options.max_tokens = 12;
  const Generated got = generate(*decoder, tokenizer, bytes_of("Once"), options);
  const at::NoGradGuard no_grad;
  Ids all = bytes_of("Once");
  for (const std::int64_t id : got.ids) {
    const at::Tensor logits = decoder->forward(tensor_of(all).unsqueeze(0));
    EXPECT_EQ(logits[0][-1].argmax().item<std::int64_t>(), id);
    all.push_back(id);
  }
  EXPECT_EQ(got.ids.size(), 12u);
  EXPECT_EQ(got.stopped_by, "length");
}

TEST(Generate, SeedDecidesEverything) {
  const auto decoder = byte_decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  GenerateOptions options;
  options.max_tokens = 20, options.sampling.temperature = 1.0, options.seed = 4;
  const Ids first = generate(*decoder, tokenizer, bytes_of("a"), options).ids;
  EXPECT_EQ(generate(*decoder, tokenizer, bytes_of("a"), options).ids, first);
  options.seed = 5;
  EXPECT_NE(generate(*decoder, tokenizer, bytes_of("a"), options).ids, first);
}

TEST(Generate, StreamsWhatItReturnsAndStopsAtText) {
  const auto decoder = byte_decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  GenerateOptions options;
  options.max_tokens = 60, options.sampling.temperature = 1.0, options.seed = 9;
  std::string shown;
  const auto collect = [&](std::string_view piece) { shown += piece; };
  const Generated whole = generate(*decoder, tokenizer, bytes_of("a"), options, collect);
  EXPECT_EQ(shown, whole.text);
  EXPECT_EQ(whole.text, tokenizer.decode(whole.ids));
  // A stop text that stands somewhere in the middle, beside one that only begins to appear.
  std::size_t at = 20;
  while (at + 3 < whole.text.size() && find_invalid_utf8(whole.text.substr(at, 3))) ++at;
  const std::string stop = whole.text.substr(at, 3);
  options.stop = {stop, stop.substr(0, 1) + "\x01\x02 never"};
  shown.clear();
  const Generated cut = generate(*decoder, tokenizer, bytes_of("a"), options, collect);
  EXPECT_EQ(cut.stopped_by, "stop");
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(stop)));
  EXPECT_EQ(shown, cut.text);
}

// A SentencePiece tokenizer puts a space in front of a text and takes it away again; one that the model says stays.
TEST(Generate, KeepsTheSpaceBetweenPromptAndContinuation) {
  const Tokenizer tokenizer(test::small_metaspace_bpe());
  ModelConfig config = test::tiny_config(Family::kLlama);
  config.vocab_size = static_cast<std::int64_t>(tokenizer.data().tokens.size());
  const auto decoder = test::tiny_decoder(config, 3);
  const Ids prompt = tokenizer.encode("a", true);
  GenerateOptions options;
  options.max_tokens = 1, options.sampling.temperature = 100;  // any token may come
  int spaces = 0;
  for (options.seed = 0; options.seed < 600; ++options.seed) {
    const Generated got = generate(*decoder, tokenizer, prompt, options);
    Ids all = prompt;
    all.insert(all.end(), got.ids.begin(), got.ids.end());
    EXPECT_EQ("a" + got.text, tokenizer.decode(all));
    spaces += got.text.starts_with(' ');
  }
  EXPECT_GT(spaces, 0);
}

TEST(Generate, EndsAtTheEndToken) {
  const auto decoder = byte_decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  GenerateOptions options;
  options.max_tokens = 30;
  const Ids free = generate(*decoder, tokenizer, bytes_of("Once"), options).ids;
  options.stop_ids = {free[3]};
  const Generated got = generate(*decoder, tokenizer, bytes_of("Once"), options);
  EXPECT_EQ(got.stopped_by, "eos");
  EXPECT_EQ(got.ids, Ids(free.begin(), std::find(free.begin(), free.end(), free[3])));
}

TEST(Generate, RefusesOptionsOutOfRange) {
  const auto decoder = byte_decoder();
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_THROW(generate(*decoder, tokenizer, {}, {}), Error);
  GenerateOptions options;
  options.sampling.top_p = 0;
  EXPECT_THROW(generate(*decoder, tokenizer, {1}, options), Error);
  options = {};
  options.sampling.temperature = -1;
  EXPECT_THROW(generate(*decoder, tokenizer, {1}, options), Error);
  options = {};
  options.stop = {""};
  EXPECT_THROW(generate(*decoder, tokenizer, {1}, options), Error);
}

TEST(Generate, RatesCountTheirTokens) {
  const auto decoder = byte_decoder();
  const DecodeRate rate = measure_rates(*decoder, 20, 5);
  EXPECT_EQ(rate.prompt_tokens, 20);
  EXPECT_EQ(rate.decode_tokens, 5);
  EXPECT_GT(rate.prompt(), 0.0);
  EXPECT_GT(rate.decode(), 0.0);
  EXPECT_THROW(measure_rates(*decoder, 0, 5), Error);
}

}  // namespace
}  // namespace attar
