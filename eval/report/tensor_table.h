// A quantized model's tensors in words and figures.
#pragma once

#include "eval/report/results.h"
#include "eval/report/table.h"

namespace attar {

Table tensor_table(const TensorTable& table);
// What the figures are, where they fall short, and which tensor costs most.
std::string meaning_of(const TensorTable& table);

}  // namespace attar
