#include "distill/training_pass.h"

namespace attar {

TeacherOfRows teacher_of(Decoder& teacher, const at::Tensor& hidden_states) {
  return [h = hidden_states.reshape({-1, hidden_states.size(-1)}), head = output_head(teacher)](std::int64_t begin, std::int64_t count) {
    return TeacherRows{head_logits(head, h.narrow(0, begin, count)), {}, {}, {}};
  };
}

LossSums training_pass(Decoder& student, Backbone& backbone, const Batch& batch, const TeacherOfRows& teacher, const LossOptions& options,
                       double scale, const std::function<void(std::int64_t)>& layer_done) {
  const at::Tensor h = backbone.forward(batch.ids);
  const OutputHead head = output_head(student);
  at::Tensor h_gradient = at::empty_like(h);
  at::Tensor W_gradient = student.parameter(head.name).grad();
  LossSums sums = vocabulary_loss(h, head, teacher, batch.targets, options, scale, logit_rows(h.device(), head.W.size(0)), h_gradient,
                                  W_gradient);
  backbone.backward(h_gradient, layer_done);
  return sums;
}

}  // namespace attar
