// Steps of open_checkpoint that its formats share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "convert/checkpoint.h"

namespace attar {

Checkpoint open_hf(const std::filesystem::path& path);  // a folder, or a .safetensors beside its config.json
Checkpoint open_gguf(const std::filesystem::path& path);

// Puts `tensors` into the order of parameters(config). Throws Error naming what is missing, has another shape or is
// left over. Buffers that old checkpoints carry and a head that is tied anyway are left out.
void set_tensors(Checkpoint& checkpoint, std::vector<Tensor> tensors);
// Throws Error if the tokenizer has more tokens than the model; added tokens past the end are dropped with a warning.
void check_tokenizer(Checkpoint& checkpoint);

}  // namespace attar
