// Loops over the threads that stay ready between products: what is started hundreds of times per token must start quickly.
#pragma once

#include <cstddef>
#include <functional>

namespace attar {

// Calls work(i) for every i in [0, count), on thread_count() threads if `operations` are worth waking them. Each i is done once,
// so results do not depend on the number of threads as long as work(i) writes only what belongs to i. The first exception is
// rethrown here. A loop within another, or at the same time in another thread, runs on its caller's thread alone.
void spread(std::size_t count, std::size_t operations, const std::function<void(std::size_t)>& work);

}  // namespace attar
