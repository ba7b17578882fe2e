// A training state that several processes write together; here they are threads.
#include "distill/train_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <thread>

#include "base/files.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

// What threads that stand for processes share.
struct Board {
  explicit Board(std::int64_t size) : meeting(size) {}
  std::barrier<> meeting;
  at::Tensor values;
  std::int64_t largest = 0;  // elements of a message
};

class ThreadGroup : public ProcessGroup {
 public:
  ThreadGroup(Board& board, std::int64_t rank, std::int64_t size) : ProcessGroup(rank, size), board_(board) {}
  std::function<void()> start_sum(const at::Tensor&) override { return [] {}; }
  void broadcast(at::Tensor& values, std::int64_t from) override {
    if (rank() == from) board_.values = values.clone(), board_.largest = std::max(board_.largest, values.numel());
    board_.meeting.arrive_and_wait();
    values.copy_(board_.values);
    board_.meeting.arrive_and_wait();
  }

 private:
  Board& board_;
};

// An optimizer, or a slice of it, whose moments tell their places.
AdamW numbered(FlatParameters& parameters, std::int64_t begin, std::int64_t end) {
  AdamW optimizer(parameters, {}, begin, end);
  optimizer.steps = 3;
  const at::Tensor place = at::arange(begin, end, at::kFloat);
  optimizer.m.copy_(place);
  optimizer.v.copy_(place * -0.5);
  return optimizer;
}

TEST(TrainState, SlicesAreWrittenOneParameterAtATimeToTheBytesOfAWholeOne) {
  const test::TempFolder folder;
  const TrainProgress progress{3, 0, {{"index", 1}}, {{"steps", 9}}, {}};
  const auto student = test::tiny_decoder(1);
  FlatParameters parameters(*student);
  const std::int64_t total = parameters.values().numel();
  write_train_state(folder / "whole", parameters, numbered(parameters, 0, total), {}, progress);
  std::int64_t largest = 0;
  for (const auto& slot : parameters.slots()) largest = std::max(largest, slot.count);
  for (const std::int64_t size : {2, 3, 7}) {
    Board board(size);
    std::vector<std::thread> threads;
    for (std::int64_t rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        ThreadGroup group(board, rank, size);
        const auto [begin, end] = group.slice(total, rank);
        write_train_state(folder / "sliced", parameters, numbered(parameters, begin, end), {}, progress, &group);
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(read_text_file(folder / "sliced"), read_text_file(folder / "whole")) << size;
    EXPECT_LE(board.largest, largest) << size;
    EXPECT_GT(board.largest, 0);
  }
}

TEST(TrainState, EachReadsItsSlice) {
  const test::TempFolder folder;
  const nlohmann::json run = {{"steps", 9}};
  const auto student = test::tiny_decoder(1);
  FlatParameters parameters(*student);
  const std::int64_t total = parameters.values().numel(), size = 3;
  write_train_state(folder / "state", parameters, numbered(parameters, 0, total), {}, {3, 0, {}, run, {}});
  std::vector<bool> within(static_cast<std::size_t>(total), false);  // not the gaps between parameters
  for (const auto& slot : parameters.slots()) std::fill_n(within.begin() + slot.offset, slot.count, true);
  Board board(size);
  for (std::int64_t rank = 0; rank < size; ++rank) {
    const auto [begin, end] = ThreadGroup(board, rank, size).slice(total, rank);
    AdamW slice(parameters, {}, begin, end);
    EXPECT_EQ(read_train_state(folder / "state", parameters, slice, {}, run).done, 3);
    EXPECT_EQ(slice.steps, 3);
    for (std::int64_t i = begin; i < end; ++i) {
      if (!within[static_cast<std::size_t>(i)]) continue;
      ASSERT_EQ(slice.m[i - begin].item<float>(), static_cast<float>(i));
      ASSERT_EQ(slice.v[i - begin].item<float>(), -0.5f * static_cast<float>(i));
    }
  }
}

}  // namespace
}  // namespace attar
