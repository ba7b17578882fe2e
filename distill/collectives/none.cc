// A LibTorch without its collectives, or without their headers.
#include "base/error.h"
#include "distill/process_group.h"

namespace attar {

std::unique_ptr<ProcessGroup> join_process_group(const Launch& launch, const at::Device&) {
  if (launch.size == 1) return nullptr;
  fail("[distill] ", launch.size, " processes were started, but this build trains with one only: it was made without LibTorch's "
       "collectives (Gloo); install libgloo-dev, configure and build again, or start one process");
}

}  // namespace attar
