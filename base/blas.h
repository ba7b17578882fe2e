// OpenBLAS chooses its kernels by the processor's model number when it is loaded. One that it does not know, newer than itself or hidden
// by a virtual machine, gets the kernels of 2004 (Prescott, SSE3), five times slower than what it could run.
#pragma once

namespace attar {

// If that has happened, starts the program again with OPENBLAS_CORETYPE set to what the processor's features allow; otherwise returns.
// Comes first in main(). A value that the user has set stays.
void choose_blas_kernels(char** arguments);

}  // namespace attar
