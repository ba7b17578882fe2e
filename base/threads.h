// Loops over independent items on all cores.
#pragma once

#include <cstdint>
#include <functional>

namespace attar {

void set_thread_count(int count);  // 0: as many as the machine has
int thread_count();                // 1 within the work of a parallel_for that runs on several: loops in it do not start more

// Calls work(i) for every i in [0, count), spread over the threads. Each i is done once, so results do not depend on the
// number of threads as long as work(i) writes only what belongs to i. The first exception is rethrown here.
void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& work);

}  // namespace attar
