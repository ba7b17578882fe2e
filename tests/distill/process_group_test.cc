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
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NNODES", "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS",
                             "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"})
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
  const Launch slurm = with({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_NNODES", "1"}});
  EXPECT_EQ(slurm.rank, 0);
  EXPECT_EQ(slurm.size, 2);
  EXPECT_EQ(with({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}).rank, 1);
  const Launch mpich = with({{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "4"}, {"MASTER_ADDR", "node3"}});
  EXPECT_EQ(mpich.rank, 5);
  EXPECT_EQ(mpich.size, 8);
  EXPECT_EQ(mpich.local_rank, 1);
  EXPECT_EQ(mpich.address, "node3");
  const Launch pmix = with({{"PMIX_RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}});
  EXPECT_EQ(pmix.rank, 1);
  EXPECT_EQ(pmix.size, 2);
  // Open MPI 5 sets both, and mpirun in a batch job of Slurm's leaves that job's variables as they are.
  const Launch nested = with({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"PMIX_RANK", "1"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_EQ(nested.rank, 1);
  EXPECT_EQ(nested.size, 2);
  EXPECT_EQ(with({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "1234"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}).port, 1235);
}

TEST_F(Environment, TheFirstMachineMustBeKnownWhereThereMayBeSeveral) {
  const std::string expected = "MASTER_ADDR is not set";
  EXPECT_HAS(error_of({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}}), "by PMI_RANK this is one of 4 processes");
  EXPECT_HAS(error_of({{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}, {"MPI_LOCALNRANKS", "2"}}), expected);
  EXPECT_HAS(error_of({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), expected);
  EXPECT_HAS(error_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_NNODES", "2"}}), expected);
  EXPECT_HAS(error_of({{"PMIX_RANK", "0"}, {"WORLD_SIZE", "4"}}), expected);
  EXPECT_EQ(with({{"PMI_RANK", "1"}, {"PMI_SIZE", "4"}, {"MPI_LOCALNRANKS", "4"}}).address, "127.0.0.1");
  EXPECT_EQ(with({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}).size, 1);
  EXPECT_EQ(with({{"RANK", "0"}, {"WORLD_SIZE", "2"}}).address, "127.0.0.1");
}

TEST_F(Environment, HalfOfItIsRefused) {
  EXPECT_HAS(error_of({{"RANK", "0"}}), "RANK is set, but not WORLD_SIZE");
  EXPECT_HAS(error_of({{"SLURM_NTASKS", "2"}}), "SLURM_NTASKS is set, but not SLURM_PROCID");
  EXPECT_HAS(error_of({{"PMIX_RANK", "0"}}), "PMIX_RANK is set, but not WORLD_SIZE");
  EXPECT_HAS(error_of({{"PMI_SIZE", "2"}}), "PMI_SIZE is set, but not PMI_RANK");
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
