// How fast this machine reads memory: what a product that uses every weight once cannot beat.
#pragma once

namespace attar {

// Bytes per second that thread_count() threads read from 256 MiB, the best of five passes.
double measure_read_bandwidth();

}  // namespace attar
