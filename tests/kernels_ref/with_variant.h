#pragma once

#include <string>

#include "kernels_ref/multiply.h"

namespace attar::test {

// Goes back to the best variant when the test ends.
class WithVariant {
 public:
  explicit WithVariant(const std::string& name) { select_kernel_variant(name); }
  ~WithVariant() { select_kernel_variant(kernel_variants().front()); }
};

}  // namespace attar::test
