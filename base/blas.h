// OpenBLAS chooses its kernels by the processor's model number when it is loaded. One that it does not know, newer than itself or hidden
// by a virtual machine, gets the kernels of 2004 (Prescott, SSE3), five times slower than what it could run; and a new one of AMD's
// those without AVX-512.
#pragma once

namespace attar {

// If that has happened, makes OpenBLAS choose again, by what the processor can do. OPENBLAS_CORETYPE still decides if it is set. Comes first
// in main(), when nothing is computed yet.
void choose_blas_kernels();

}  // namespace attar
