// The models of a distillation: loading them, making a student from a bare config, and checking that they fit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "model/decoder.h"

namespace attar {

struct LoadedModel {
  std::shared_ptr<Decoder> decoder;
  ModelConfig config;
  TokenizerData tokenizer;
  std::string identity;            // equal identities are equal weights, config and tokenizer
  std::uint64_t parameters = 0;
};

// A model to go on from; or a folder with config.json but no weights, which are then drawn from the seed. Without a
// tokenizer of its own it takes the teacher's. teacher: nullptr if there is none.
LoadedModel load_student(const std::filesystem::path& path, const Checkpoint* teacher, std::uint64_t seed,
                         const at::Device& device);

// In inference mode: no parameter wants a gradient. Where the student's vocabulary is a part of the teacher's, the teacher is
// loaded with the student's tokens only: it then gives its own distribution, given that the token is one of them.
LoadedModel load_teacher(const Checkpoint& checkpoint, const LoadedModel& student, const at::Device& device);

// The same without its weights: decoder is empty.
LoadedModel describe_teacher(const Checkpoint& checkpoint, const LoadedModel& student);

// Throws Error if they do not share a tokenizer, naming the first difference; warns if the student is the larger one.
void check_pair(const LoadedModel& student, const LoadedModel& teacher);

}  // namespace attar
