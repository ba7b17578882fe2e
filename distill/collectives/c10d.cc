// The process group of LibTorch: Gloo between processors, NCCL between GPUs where LibTorch has it.
#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "distill/process_group.h"

namespace attar {
namespace {

// How long a process may stay silent. A dead one is noticed at once by its closed connection; this is for lost machines.
constexpr std::chrono::seconds kPatience{50};

template <class Group>
class C10dGroup : public ProcessGroup {
 public:
  C10dGroup(c10::intrusive_ptr<Group> group, const at::Device& device, const Launch& launch)
      : ProcessGroup(launch.rank, launch.size), group_(std::move(group)), device_(device) {}

  std::function<void()> start_sum(const at::Tensor& values) override {
    const at::Tensor here = values.to(device_);
    std::vector<at::Tensor> one{here};
    c10::intrusive_ptr<WorkOf> work;
    guarded([&] { work = group_->allreduce(one); });
    return [this, work, values, here] {
      guarded([&] { work->wait(); });
      if (!values.is_same(here)) at::Tensor(values).copy_(here);
    };
  }

  void broadcast(at::Tensor& values, std::int64_t from) override {
    const at::Tensor here = values.to(device_).contiguous();
    std::vector<at::Tensor> one{here};
    c10d::BroadcastOptions options;
    options.rootRank = static_cast<int>(from);
    guarded([&] { group_->broadcast(one, options)->wait(); });
    if (!values.is_same(here)) values.copy_(here);
  }

 private:
  // ProcessGroup::Work in LibTorch 1, Work in 2.
  using WorkOf = typename decltype(std::declval<Group>().allreduce(std::declval<std::vector<at::Tensor>&>()))::element_type;

  template <class F>
  void guarded(F collective) const {
    try {
      collective();
    } catch (const std::exception& error) {
      const std::string text = error.what();
      fail("[distill] process ", rank(), " of ", size(), ": another one has ended or is silent for ", kPatience.count(),
           " seconds (", text.substr(0, text.find('\n')), "); see what it said, then start all again with --resume");
    }
  }

  c10::intrusive_ptr<Group> group_;
  at::Device device_;
};

std::shared_ptr<gloo::transport::Device> gloo_device(const Launch& launch) {
  using Gloo = c10d::ProcessGroupGloo;
  if (const char* name = std::getenv("GLOO_SOCKET_IFNAME"); name != nullptr && *name != '\0')
    return Gloo::createDeviceForInterface(name);
  if (launch.address == "127.0.0.1" || launch.address == "localhost") return Gloo::createDeviceForHostname("127.0.0.1");
  return Gloo::createDefaultDevice();
}

// Waits until all have come, and refuses those that were told of another number of processes.
void compare_sizes(c10d::TCPStore& store, const Launch& launch) {
  const auto key = [](std::int64_t rank) { return cat("attar/size/", rank); };
  const std::string own = std::to_string(launch.size);
  store.set(key(launch.rank), {own.begin(), own.end()});
  for (std::int64_t rank = 0; rank < launch.size; ++rank) {
    const std::vector<std::uint8_t> said = store.get(key(rank));
    const std::string other(said.begin(), said.end());
    if (other == own) continue;
    if (launch.rank == 0) std::this_thread::sleep_for(std::chrono::seconds(1));  // the store ends with this process: the others read it too
    fail("[distill] process ", launch.rank, " was started as one of ", own, ", process ", rank, " as one of ", other,
         "; give all the same WORLD_SIZE (or number of tasks)");
  }
}

}  // namespace

std::unique_ptr<ProcessGroup> join_process_group(const Launch& launch, const at::Device& device) {
  if (launch.size == 1) return nullptr;
  const int rank = static_cast<int>(launch.rank), size = static_cast<int>(launch.size);
  try {
    c10d::TCPStoreOptions where;
    where.port = static_cast<std::uint16_t>(launch.port);
    where.isServer = launch.rank == 0;
    where.numWorkers = static_cast<std::size_t>(size);
    where.timeout = kPatience;
    where.waitWorkers = false;  // compare_sizes() does
    const auto store = c10::make_intrusive<c10d::TCPStore>(launch.address, where);
    compare_sizes(*store, launch);
#ifdef USE_C10D_NCCL
    if (device.is_cuda()) {
      auto options = c10d::ProcessGroupNCCL::Options::create();
      options->timeout = kPatience;
      return std::make_unique<C10dGroup<c10d::ProcessGroupNCCL>>(
          c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options), device, launch);
    }
#else
    static_cast<void>(device);  // Gloo works in the processor's memory
#endif
    auto options = c10d::ProcessGroupGloo::Options::create(kPatience);
    options->devices.push_back(gloo_device(launch));
    return std::make_unique<C10dGroup<c10d::ProcessGroupGloo>>(
        c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options), at::kCPU, launch);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    fail("[distill] process ", rank, " of ", size, " found not all the others at ", launch.address, ":", launch.port, " in ",
         kPatience.count(), " seconds (", text.substr(0, text.find('\n')), "); check that all were started, MASTER_ADDR and MASTER_PORT");
  }
}

}  // namespace attar
