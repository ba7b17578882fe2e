// What a product cannot beat on this machine: how fast memory is read, which bounds one that uses every weight once, and how fast
// numbers that are there are multiplied, which bounds one that uses them often. Williams et al., "Roofline: An Insightful Visual
// Performance Model for Multicore Architectures", 2009. Times are medians: of what is repeated, other work on a machine moves them least.
#pragma once

#include <functional>
#include <vector>

#include "base/bytes.h"

namespace attar {

double median(std::vector<double> values);  // of at least one
double seconds_of(const std::function<void()>& work);
double median_seconds(const std::function<void()>& work);  // of nine times

// Has thread_count() threads read `memory`, which should be larger than caches, once.
void read_once(ByteView memory);
// Bytes per second that they read from 256 MiB.
double measure_read_bandwidth();

// Multiplications of 8-bit numbers per second of thread_count() threads by the kernels in use, all data in the first cache.
double measure_product_rate();

}  // namespace attar
