#include "base/blas.h"
#include "base/console.h"
#include "cli/command.h"

int main(int argc, char** argv) {
  attar::choose_blas_kernels();
  attar::catch_interrupts();
  return attar::cli::run_command_line({argv + 1, argv + argc});
}
