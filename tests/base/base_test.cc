#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <cmath>
#include <csignal>
#include <limits>
#include <sys/resource.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/console.h"
#include "base/data.h"
#include "base/files.h"
#include "base/half.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "tests/support.h"

namespace attar {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Checked, ThrowsInsteadOfWrapping) {
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(checked_add(kMax - 1, 1, "x"), kMax);
  EXPECT_THROW(checked_add(kMax, 1, "x"), Error);
  EXPECT_THROW(checked_mul(std::uint64_t{1} << 32, std::uint64_t{1} << 32, "x"), Error);
  EXPECT_EQ(checked_align(33, 32, "x"), 64u);
  EXPECT_THROW(checked_align(kMax - 3, 32, "x"), Error);
}

TEST(Half, EveryF16ComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f32_from_f16(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(f16_from_f32(value), bits);
  }
}

// Between two neighbours the nearer wins, and the one with the even mantissa in the middle.
TEST(Half, F16RoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = f32_from_f16(static_cast<std::uint16_t>(bits)), high = f32_from_f16(static_cast<std::uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    EXPECT_EQ(f16_from_f32(middle), bits + (bits & 1));
    EXPECT_EQ(f16_from_f32(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(f16_from_f32(std::nextafter(middle, high)), bits + 1);
  }
  EXPECT_EQ(f16_from_f32(65519.996f), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.0f), 0x7c00);
  EXPECT_EQ(f16_from_f32(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_TRUE(std::isnan(f32_from_f16(f16_from_f32(std::nanf("")))));
}

TEST(Half, Bf16RoundsToNearestEven) {
  EXPECT_EQ(bf16_from_f32(1.0f), 0x3f80);
  EXPECT_EQ(bf16_from_f32(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie, even below
  EXPECT_EQ(bf16_from_f32(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie, even above
  EXPECT_TRUE(std::isnan(f32_from_bf16(bf16_from_f32(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Bytes, ReaderNamesWhatIsMissing) {
  ByteWriter writer;
  writer.write(std::uint32_t{7});
  ByteReader reader(writer.bytes(), "x.gguf");
  EXPECT_EQ(reader.read<std::uint32_t>("version"), 7u);
  const std::string message = message_of([&] { reader.read<std::uint64_t>("tensor count"); });
  EXPECT_NE(message.find("x.gguf: tensor count at byte 4 needs 8 bytes, 0 remain"), std::string::npos) << message;
}

TEST(OutputFile, AppearsOnlyWhenCommitted) {
  test::TempFolder folder;
  const auto path = folder / "out.bin";
  {
    OutputFile file(path);
    file.write(std::string(3'000'000, 'x'));
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  OutputFile file(path);
  file.write("whole");
  file.commit();
  EXPECT_EQ(read_text_file(path), "whole");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(OutputFile, FullDiskIsAnErrorAndLeavesNothing) {
  test::TempFolder folder;
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = message_of([&] {
    OutputFile file(folder / "big");
    file.write(std::string(2'000'000, 'x'));
    file.commit();
  });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(ScratchFile, HoldsWhatIsWrittenAnywhere) {
  const test::TempFolder folder;
  ScratchFile memory, file(folder / "scratch");
  for (ScratchFile* scratch : {&memory, &file}) {
    scratch->write(100'000, as_bytes("later"));
    scratch->write(3, as_bytes("early"));
    EXPECT_EQ(scratch->size(), 100'005u);
    Bytes read(5);
    scratch->read(3, read);
    EXPECT_EQ(as_text(read), "early");
    scratch->read(100'000, read);
    EXPECT_EQ(as_text(read), "later");
    EXPECT_NE(message_of([&] { scratch->read(100'001, read); }).find("it ends there"), std::string::npos);
  }
  file.sync();
  Bytes again(5);
  ScratchFile::open(folder / "scratch").read(100'000, again);
  EXPECT_EQ(as_text(again), "later");
  EXPECT_THROW(ScratchFile::open(folder / "missing"), Error);
  EXPECT_THROW(ScratchFile(folder / "no" / "folder"), Error);
}

TEST(PeakMemory, GrowsWithWhatIsUsed) {
  const std::uint64_t before = peak_memory();
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const std::string used(kBytes, 'x');
  EXPECT_GE(peak_memory(), before + kBytes / 2);
  EXPECT_LT(before, std::uint64_t{1} << 32);
  EXPECT_EQ(used.back(), 'x');
}

TEST(OutputFolder, ReplacesOnlyModels) {
  test::TempFolder folder;
  fs::create_directory(folder / "precious");
  write_text_file(folder / "precious/diary.txt", "dear diary");
  EXPECT_THROW(OutputFolder(folder / "precious"), Error);
  for (const char* text : {"{}", "{ }"}) {
    OutputFolder model(folder / "model");
    write_text_file(model.folder() / "config.json", text);
    model.commit();
    EXPECT_EQ(read_text_file(folder / "model/config.json"), text);
  }
}

// Whoever reads while one is replaced finds the old or the new.
TEST(OutputFolder, IsNeverMissing) {
  test::TempFolder folder;
  const fs::path path = folder / "model";
  const auto write = [&](int i) {
    OutputFolder model(path);
    for (int file = 0; file < 20; ++file) write_text_file(model.folder() / cat("part-", file), "x");
    write_text_file(model.folder() / "config.json", cat(i));
    model.commit();
  };
  write(0);
  std::atomic<bool> done = false;
  int missing = 0, seen = 0;
  std::thread reader([&] {
    for (; !done; ++seen) missing += fs::exists(path) ? 0 : 1;
  });
  for (int i = 1; i <= 200; ++i) write(i);
  done = true;
  reader.join();
  EXPECT_EQ(missing, 0) << "of " << seen;
  EXPECT_EQ(read_text_file(path / "config.json"), "200");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "the old ones are gone";
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  test::TempFolder folder;
  write_text_file(folder / "empty", "");
  EXPECT_NE(message_of([&] { MappedFile(folder / "empty"); }).find("empty"), std::string::npos);
  EXPECT_THROW(MappedFile(folder.path()), Error);
  EXPECT_THROW(MappedFile(folder / "none"), Error);
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_FALSE(find_invalid_utf8("plain, \xc3\xa9, \xe2\x82\xac, \xf0\x9f\x98\x80"));
  EXPECT_EQ(find_invalid_utf8("ab\xff"), 2u);
  EXPECT_EQ(find_invalid_utf8("\xc0\xaf"), 0u);           // overlong
  EXPECT_EQ(find_invalid_utf8("a\xed\xa0\x80"), 1u);      // surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);   // past U+10FFFF
  EXPECT_EQ(find_invalid_utf8("ok\xe2\x82"), 2u);         // cut short
}

TEST(Suggest, NamesTheNearest) {
  const std::vector<std::string> types = {"q4_0", "q4_k_m", "q8_0"};
  EXPECT_EQ(nearest("q4_km", types), "q4_k_m");
  EXPECT_EQ(suggest("zzzzzzzz", types), "; one of q4_0, q4_k_m, q8_0");
}

TEST(ContentHash, IsXxh3) {
  // XXH3_128bits of the empty input with seed 0, from xxHash's specification.
  EXPECT_EQ(content_hash({}), "99aa06d3014798d86001c324468d497f");
  ContentHash parts;
  parts.add("ab");
  parts.add("c");
  EXPECT_EQ(parts.hex(), content_hash(as_bytes("abc")));
}

TEST(Random, IsTheSameEverywhere) {
  Random random(0);
  // First output of xoshiro256** whose state is four outputs of SplitMix64 from seed 0, as in rand_xoshiro's tests.
  EXPECT_EQ(random.next(), 0x99ec5f36cb75f2b4u);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LT(random.below(7), 7u);
    const double u = random.uniform();
    EXPECT_TRUE(u >= 0 && u < 1);
  }
}

TEST(MappedFile, ReadsWithoutMappingAndSaysWhenTheFileHasShrunk) {
  const test::TempFolder folder;
  const fs::path path = folder / "f";
  write_text_file(path, std::string(5000, 'a') + std::string(5000, 'b'));
  const MappedFile file(path);
  Bytes part(200);
  file.read(4900, 200, part.data());
  EXPECT_EQ(part, Bytes(file.bytes().begin() + 4900, file.bytes().begin() + 5100));
  fs::resize_file(path, 5000);
  EXPECT_NE(message_of([&] { file.read(4900, 200, part.data()); }).find("ends at byte 5000, and had 10000"), std::string::npos);
}

TEST(ParallelFor, DoesEachItemOnceAndRethrows) {
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    std::vector<std::atomic<int>> done(1000);
    parallel_for(1000, [&](std::int64_t i) { ++done[static_cast<std::size_t>(i)]; });
    for (const auto& count : done) EXPECT_EQ(count, 1);
    EXPECT_THROW(parallel_for(100, [](std::int64_t i) { if (i == 50) fail("boom"); }), Error);
  }
  set_thread_count(0);
}

TEST(ParallelFor, LoopsInALoopStartNoMoreThreads) {
  set_thread_count(3);
  std::atomic<int> foreign{0};
  parallel_for(30, [&](std::int64_t) {
    const auto self = std::this_thread::get_id();
    EXPECT_EQ(thread_count(), 1);
    parallel_for(30, [&](std::int64_t) { foreign += std::this_thread::get_id() != self; });
  });
  EXPECT_EQ(foreign, 0);
  parallel_for(1, [](std::int64_t) { EXPECT_EQ(thread_count(), 3) << "one item has all threads to itself"; });
  EXPECT_EQ(thread_count(), 3);
  set_thread_count(0);
}

TEST(Data, UnknownBuiltInModelIsNamed) {
  EXPECT_EQ(model_path("some/path"), "some/path");
  EXPECT_NE(message_of([] { model_path("builtin:nothing"); }).find("builtin:teacher"), std::string::npos);
}

}  // namespace
}  // namespace attar
