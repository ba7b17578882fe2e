#include "distill/process_group.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace attar {
namespace {

constexpr std::int64_t kCacheLine = 16;  // floats

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

std::int64_t number(const char* name, const std::string& text, std::int64_t lowest, std::int64_t highest) {
  std::int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || value < lowest || value > highest)
    fail("[distill] ", name, "=", text, ": expected a number from ", lowest, " to ", highest);
  return value;
}

}  // namespace

Launch launch_from_environment() {
  struct Launcher {
    const char *rank, *size, *local_rank, *local_size;
  };
  // srun comes last: mpirun inside a job of Slurm's finds the job's variables as well, which say the same in all of its processes.
  constexpr Launcher kLaunchers[] = {
      {"RANK", "WORLD_SIZE", "LOCAL_RANK", nullptr},
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
      {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
      {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr},
      {"PMIX_RANK", "WORLD_SIZE", nullptr, nullptr}};
  constexpr std::int64_t kMostRanks = 1 << 16, kHighestPort = 65535;
  Launch launch;
  bool may_be_elsewhere = false;  // processes on other machines
  const char* by = nullptr;
  for (const auto& [rank_name, size_name, local_name, local_size_name] : kLaunchers) {
    const auto rank = environment(rank_name);
    auto size = environment(size_name);
    if (size_name == std::string_view("WORLD_SIZE") && !rank && environment("PMIX_RANK")) size.reset();  // that one's
    if (!rank && !size) continue;
    if (!rank || !size)
      fail("[distill] ", rank ? rank_name : size_name, " is set, but not ", rank ? size_name : rank_name,
           "; a launcher sets both, and one process alone needs neither");
    by = rank_name;
    launch.size = number(size_name, *size, 1, kMostRanks);
    launch.rank = number(rank_name, *rank, 0, launch.size - 1);
    if (local_name != nullptr)
      if (const auto local = environment(local_name)) launch.local_rank = number(local_name, *local, 0, launch.size - 1);
    const auto here = local_size_name != nullptr ? environment(local_size_name) : std::nullopt;
    const bool by_shell = by == std::string_view("RANK");  // or torchrun, which sets MASTER_ADDR
    const bool one_node = by == std::string_view("SLURM_PROCID") && environment("SLURM_NNODES") == "1";
    may_be_elsewhere = !by_shell && !one_node && !(here && number(local_size_name, *here, 1, launch.size) == launch.size);
    break;
  }
  if (const auto address = environment("MASTER_ADDR"))
    launch.address = *address;
  else if (launch.size > 1 && may_be_elsewhere)
    fail("[distill] by ", by, " this is one of ", launch.size, " processes, which may run on several machines, and MASTER_ADDR is not set; set it to the "
         "machine of the first one (127.0.0.1 if all run on one), and MASTER_PORT to a free port there, for all of them");
  if (const auto port = environment("MASTER_PORT")) launch.port = number("MASTER_PORT", *port, 1, kHighestPort - 1);
  if (environment("TORCHELASTIC_USE_AGENT_STORE") == "True") ++launch.port;
  return launch;
}

void ProcessGroup::sum(at::Tensor& values) {
  const at::Tensor flat = values.view({-1});
  std::vector<std::function<void()>> waits;
  for (std::int64_t begin = 0; begin < flat.numel(); begin += kBucket)
    waits.push_back(start_sum(flat.narrow(0, begin, std::min(kBucket, flat.numel() - begin))));
  for (const auto& wait : waits) wait();
}

void ProcessGroup::wait_for_all() {
  at::Tensor one = at::ones({1});
  sum(one);
}

std::pair<std::int64_t, std::int64_t> ProcessGroup::slice(std::int64_t total, std::int64_t of_rank) const {
  const std::int64_t lines = (total + kCacheLine - 1) / kCacheLine;
  const auto place = [&](std::int64_t rank) { return std::min(total, lines * rank / size_ * kCacheLine); };
  return {place(of_rank), place(of_rank + 1)};
}

}  // namespace attar
