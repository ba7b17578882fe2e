// What a product cannot beat on this machine: how fast memory is read, which bounds one that uses every weight once, and how fast
// numbers that are there are multiplied, which bounds one that uses them often. Williams et al., "Roofline: An Insightful Visual
// Performance Model for Multicore Architectures", 2009.
#pragma once

namespace attar {

// Bytes per second that thread_count() threads read from 256 MiB, the best of five passes.
double measure_read_bandwidth();

// Multiplications of 8-bit numbers per second of thread_count() threads by the kernels in use, all data in the first cache: the
// best of five passes.
double measure_product_rate();

}  // namespace attar
