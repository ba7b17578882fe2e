// One training pass over a batch: through the student, its loss against the teacher, and back.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

#include "distill/batch.h"
#include "distill/checkpointing.h"
#include "distill/losses.h"
#include "distill/vocabulary_loss.h"

namespace attar {

// What the teacher says of rows of its hidden states (batch, time, hidden_size), normed.
TeacherOfRows teacher_of(Decoder& teacher, const at::Tensor& hidden_states);

// Adds the gradient of `scale` times the sum of the losses to the gradients of the student's parameters, which must have some. backbone: of
// this student. layer_done as in Backbone::backward; may be empty. Returns sums over the batch.
LossSums training_pass(Decoder& student, Backbone& backbone, const Batch& batch, const TeacherOfRows& teacher, const LossOptions& options,
                       double scale, const std::function<void(std::int64_t index)>& layer_done = {});

}  // namespace attar
