// Text from LibTorch's decoder, in float32. No header of LibTorch is needed to ask for it.
#pragma once

#include <memory>
#include <string>

#include "convert/checkpoint.h"
#include "runtime/generate.h"

namespace attar {

class Decoder;

// device: as --device names it. Throws Error as parse_device and load_decoder do.
std::unique_ptr<TextModel> load_text_model(const Checkpoint& checkpoint, const std::string& device);

// As for any TextModel, in a context of their own.
Generated generate(Decoder& decoder, const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options,
                   const std::function<void(std::string_view)>& on_text = {});
DecodeRate measure_rates(Decoder& decoder, std::int64_t prompt_tokens = 128, std::int64_t decode_tokens = 64);

}  // namespace attar
