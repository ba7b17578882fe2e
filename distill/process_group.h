// Several processes, on one machine or many, that train one student together.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace attar {

// Which of how many processes this is, and where the first one listens.
struct Launch {
  std::int64_t rank = 0, size = 1;
  std::int64_t local_rank = 0;  // on this machine: which GPU is its own
  std::string address = "127.0.0.1";
  std::int64_t port = 29500;
};

// From what a launcher sets: torchrun's RANK and WORLD_SIZE; mpirun's OMPI_COMM_WORLD_RANK and _SIZE (Open MPI) or PMI_RANK and PMI_SIZE
// (MPICH, Intel MPI); srun's SLURM_PROCID and SLURM_NTASKS; PMIX_RANK, beside which there is no size, so that WORLD_SIZE must be set; in this
// order. MASTER_ADDR and MASTER_PORT with any of them. None: one process. Throws Error for half a pair, for numbers that make no sense, and
// where processes may run on several machines and MASTER_ADDR is not set. torchrun --standalone keeps MASTER_PORT for itself: the next port is used then.
Launch launch_from_environment();

constexpr std::int64_t kBucket = std::int64_t{1} << 22;  // floats summed in one message: 16 MB

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  // All processes make the same calls in the same order. Throws Error if another one ended, or did not answer in time.
  // Begins to add values up in place, in one message: contiguous, float, the same bytes everywhere. They are there when what is
  // returned has been called, and are not to be touched before.
  virtual std::function<void()> start_sum(const at::Tensor& values) = 0;
  virtual void broadcast(at::Tensor& values, std::int64_t from) = 0;  // what rank `from` holds, to all

  std::int64_t rank() const { return rank_; }
  std::int64_t size() const { return size_; }
  void sum(at::Tensor& values);  // the same at once, contiguous, in messages of kBucket
  void wait_for_all();
  // Elements [begin, end) of `total` that a rank owns, whole cache lines.
  std::pair<std::int64_t, std::int64_t> slice(std::int64_t total, std::int64_t of_rank) const;

 protected:
  ProcessGroup(std::int64_t rank, std::int64_t size) : rank_(rank), size_(size) {}

 private:
  std::int64_t rank_, size_;
};

// Which of how many; without a group the one of one.
struct Place {
  std::int64_t rank = 0, size = 1;
};
inline Place place_in(const ProcessGroup* group) { return group != nullptr ? Place{group->rank(), group->size()} : Place{}; }

// Waits until all are there; null for one process. Throws Error: not all came, or this build cannot.
std::unique_ptr<ProcessGroup> join_process_group(const Launch& launch, const at::Device& device);

}  // namespace attar
