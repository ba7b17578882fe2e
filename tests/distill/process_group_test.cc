// What processes do together is tested by tests/cli/processes_test.cc.
#include "distill/process_group.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "base/error.h"
#include "tests/support.h"

namespace attar {
namespace {

class Environment : public testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"})
      ::unsetenv(name);
  }
  static Launch with(const std::map<std::string, std::string>& values) {
    clear();
    for (const auto& [name, value] : values) ::setenv(name.c_str(), value.c_str(), 1);
    return launch_from_environment();
  }
  static std::string error_of(const std::map<std::string, std::string>& values) {
    return test::error_of([&] { with(values); });
  }
};

TEST_F(Environment, EveryLauncherIsUnderstood) {
  EXPECT_EQ(with({}).size, 1);
  const Launch torchrun = with({{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "node7"}, {"MASTER_PORT", "1234"}});
  EXPECT_EQ(torchrun.rank, 3);
  EXPECT_EQ(torchrun.size, 4);
  EXPECT_EQ(torchrun.local_rank, 1);
  EXPECT_EQ(torchrun.address, "node7");
  EXPECT_EQ(torchrun.port, 1234);
  const Launch slurm = with({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}});
  EXPECT_EQ(slurm.rank, 0);
  EXPECT_EQ(slurm.size, 2);
  EXPECT_EQ(with({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}).rank, 1);
  EXPECT_EQ(with({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1234"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}).port, 1235);
}

TEST_F(Environment, HalfOfItIsRefused) {
  EXPECT_HAS(error_of({{"RANK", "0"}}), "RANK is set, but not WORLD_SIZE");
  EXPECT_HAS(error_of({{"SLURM_NTASKS", "2"}}), "SLURM_NTASKS is set, but not SLURM_PROCID");
  EXPECT_HAS(error_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), "RANK=2: expected a number from 0 to 1");
  EXPECT_HAS(error_of({{"RANK", "a"}, {"WORLD_SIZE", "2"}}), "RANK=a");
  EXPECT_HAS(error_of({{"RANK", "0"}, {"WORLD_SIZE", "0"}}), "WORLD_SIZE=0");
  EXPECT_HAS(error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}}), "MASTER_PORT=70000");
}

TEST(ProcessGroup, OneProcessNeedsNone) { EXPECT_EQ(join_process_group({}, at::kCPU), nullptr); }

class Slices : public ProcessGroup {
 public:
  explicit Slices(std::int64_t size) : ProcessGroup(0, size) {}
  std::function<void()> start_sum(const at::Tensor&) override { return [] {}; }
  void broadcast(at::Tensor&, std::int64_t) override {}
};

TEST(ProcessGroup, SlicesCoverEverythingOnce) {
  for (const std::int64_t total : {0, 5, 16, 17, 1000, 4096}) {
    for (const std::int64_t size : {1, 2, 3, 7}) {
      std::int64_t end = 0;
      for (std::int64_t rank = 0; rank < size; ++rank) {
        const auto slice = Slices(size).slice(total, rank);
        EXPECT_EQ(slice.first, end);
        EXPECT_TRUE(slice.first % 16 == 0 || slice.first == total);
        end = slice.second;
      }
      EXPECT_EQ(end, total);
    }
  }
}

}  // namespace
}  // namespace attar
