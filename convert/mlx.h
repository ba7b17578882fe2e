// Plain groups in Hugging Face folders as MLX keeps them (https://github.com/ml-explore/mlx, mode "affine"): for a matrix NAME.weight
// the codes, 32 bits at a time, in NAME.weight (U32), and NAME.scales and NAME.biases. docs/formats/mlx.md.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "convert/tensor.h"

namespace attar {

// Joins the three tensors of each packed matrix into one of a type affineB_gG; all others are handed on. quantization: config.json's
// "quantization" object, null if there is none. source: for errors. Throws Error for shapes, sizes or settings that
// contradict each other; reading a row throws Error for a scale or bias that is NaN, or that f16 cannot hold.
std::vector<Tensor> from_mlx(std::vector<Tensor> tensors, const nlohmann::json& quantization, const std::string& source);

// Each matrix of plain groups as three tensors, vectors as F16. Types without an offset get biases of level_min * scale, which is exact;
// a scale for the whole row is repeated for each 128 (64, 32) weights. Throws Error for a bias past f16's largest number.
std::vector<Tensor> to_mlx(const std::vector<Tensor>& tensors);

// The type that `tensor` has once it is read back from a folder: an affine one in place of any plain groups, else its own.
Type type_in_folder(const Tensor& tensor);

// What config.json says of them: "group_size" and "bits" that most weights have, and an entry for every matrix that differs.
nlohmann::json mlx_quantization(const std::vector<Tensor>& tensors);

}  // namespace attar
