// check_attention [VARIANT...]: what check_variants cannot reach by the C interface: attention and widening of each.
#include <cstdio>

#include "kernels_ref/attar_kernels.h"
#include "tests/kernels_ref/attention_check.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (attar_kernels_select(argv[i]) != ATTAR_OK) {
      std::printf("%s: %s\n", argv[i], attar_kernels_last_error());
      return 1;
    }
    for (const std::string& wrong : {attar::test::wrong_attention(), attar::test::wrong_widening()}) {
      if (wrong.empty()) continue;
      std::printf("%s: %s\n", argv[i], wrong.c_str());
      return 1;
    }
    std::printf("%s ", argv[i]);
  }
  std::printf("attend\n");
  return 0;
}
