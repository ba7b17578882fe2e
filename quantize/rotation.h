// An orthogonal matrix: a random one that needs neither n x n numbers nor n x n products, and behind it, if one was learned, a matrix D of any kind.
//
// R = S (H (x) O): S random signs, H the Hadamard matrix of the largest power of two that divides n, scaled to be orthogonal, O a random
// orthogonal matrix of what is left, (x) the Kronecker product. Without O (n a power of two) this is the randomised Hadamard matrix of
//   Tseng, Chee, Sun, Kuleshov, De Sa, "QuIP#: Even Better LLM Quantization with Hadamard Incoherence and Lattice Codebooks", 2024,
//   https://arxiv.org/abs/2402.04396 (section 3).
// With D, which learn_rotations.h finds, it is R D.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace attar {

class Rotation {
 public:
  // D: (n, n), row-major, orthogonal; empty: none.
  Rotation(std::int64_t n, std::uint64_t seed, std::vector<double> D = {});

  std::int64_t size() const { return static_cast<std::int64_t>(signs_.size()); }
  void apply(std::span<double> X) const;  // X (lines, n), row-major: X <- X R; each line as if it were alone
  // M (rows, n), row-major: M <- M R.
  void apply_rows(std::span<float> M) const;
  // M (n, columns), row-major: M <- R^T M.
  void apply_columns(std::span<float> M, std::int64_t columns) const;

 private:
  void apply_random(std::span<double> x) const;  // to one line, without D
  std::int64_t power_, odd_;           // n = power_ * odd_
  std::vector<double> signs_, O_, D_;  // (n); (odd_, odd_); (n, n)
};

}  // namespace attar
