// Rounding and scales of the matrices of half a layer learned together, by the signs of gradients: what the half gives, attention's softmax and
// the MLP's nonlinearity included, is to be what the original gave.
//
//   Cheng, Zhang, Shen, Cai, He, Lv, Liu, "Optimize Weight Rounding via Signed Gradient Descent for the Quantization of LLMs"
//   (AutoRound), 2023, https://arxiv.org/abs/2309.05516.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>

#include "convert/tensor.h"
#include "quantize/options.h"
#include "quantize/streams.h"

namespace attar {

// W: the original's matrices by name, Q: as they are rounded so far, replaced by what is better and left alone if nothing is. The streams
// have all of Q in place and the original's has left the half. The same bytes at any number of threads.
AutoRoundResult autoround(Streams& streams, const std::map<std::string, at::Tensor>& W, std::map<std::string, QuantizedTensor>& Q,
                          const at::Tensor& A, const AutoRoundOptions& options, std::uint64_t seed);

}  // namespace attar
