// Two programs as one tool: which commands start without LibTorch, and what the others are handed over with.
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/safetensors.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar {
namespace {

fs::path program() {
  const char* name = std::getenv("ATTAR_PROGRAM");
  return fs::absolute(name != nullptr ? name : "./attar");
}
fs::path full_program() { return program().parent_path() / "attar-full"; }

class Start : public testing::Test {
 protected:
  void SetUp() override {
    write_hf(test::random_model(), folder_ / "floats");
    write_gguf(test::random_model(Type::kQ8_0), folder_ / "packed.gguf", {});
    write_text_file(folder_ / "text.txt", "Once upon a time");
    const std::vector<std::int64_t> ids = {5, 6, 7};
    QuantizedTensor data{Type::kI64, {1, 3}, Bytes(ids.size() * sizeof(ids[0]))};
    std::memcpy(data.bytes.data(), ids.data(), data.bytes.size());
    write_safetensors(folder_ / "ids.safetensors", {make_tensor("input_ids", std::move(data))});
  }
  // In the folder.
  test::RunResult run(const std::string& arguments, const std::string& before = "") {
    return test::run_shell("cd " + folder_.path().string() + " && " + before + " " + program().string() + " " + arguments + " 2>&1");
  }
  test::RunResult run_full(const std::string& arguments) {
    return test::run_shell("cd " + folder_.path().string() + " && " + full_program().string() + " " + arguments + " 2>&1");
  }
  // Whether the dynamic loader is asked for LibTorch, by this program or what it becomes.
  bool loads_torch(const std::string& arguments) {
    const test::RunResult result = run(arguments, "LD_DEBUG=libs");
    EXPECT_EQ(result.code, 0) << arguments;
    EXPECT_HAS(result.output, "find library=libstdc++");  // the loader did speak
    return result.output.find("find library=libtorch") != std::string::npos;
  }
  test::TempFolder folder_;
};

TEST_F(Start, WhatNeedsNoLibTorchDoesNotLoadIt) {
  for (const char* arguments :
       {"--help", "--version", "", "inspect floats", "inspect --help", "tokenize packed.gguf --file text.txt", "convert floats -o copy.gguf",
        "generate packed.gguf --prompt Once --max-tokens 2", "generate packed.gguf --prompt Once --max-tokens 2 --device cpu:0",
        "logits packed.gguf --ids ids.safetensors -o logits.safetensors",
        "bench packed.gguf --prompt 4 --decode 2 --json bench.json", "report bench.json -o page.html",
        "quantize floats -o q4.gguf --type q4_0 --json q4.json", "quantize floats -o q5.gguf --type q5_0 --method rtn --json q5.json", "compare q4.json q5.json"})
    EXPECT_FALSE(loads_torch(arguments)) << arguments;
}

TEST_F(Start, WhatNeedsLibTorchIsHandedOver) {
  for (const char* arguments :
       {"distill --help", "--print man", "generate floats --prompt Once --max-tokens 2", "generate packed.gguf --prompt Once --max-tokens 2 --float",
        "logits floats --ids ids.safetensors -o logits.safetensors", "bench floats --prompt 4 --decode 2", "golden packed.gguf -o golden",
        "quantize floats -o hqq.gguf --type q4_0 --method hqq", "quantize floats -o folder --type affine4_g32"})
    EXPECT_TRUE(loads_torch(arguments)) << arguments;
  EXPECT_FALSE(loads_torch("golden --check golden"));
}

TEST_F(Start, BothWaysGiveTheSame) {
  for (const char* arguments : {"--help", "--version", "quantize --help", "distill --help", "inspect packed.gguf --tensors", "bogus", "distil",
                                "inspect --bogus x", "distill --bogus x", "generate packed.gguf --prompt Once --max-tokens 9 --ids", "generate packed.gguf --prompt Once --device tpu",
                                "logits packed.gguf --ids ids.safetensors -o logits.safetensors --device tpu", "bench packed.gguf --device tpu", "bench --device cuda",
                                "bench --float"}) {
    const test::RunResult light = run(arguments), full = run_full(arguments);
    EXPECT_EQ(light.output, full.output) << arguments;
    EXPECT_EQ(light.code, full.code) << arguments;
  }
}

TEST_F(Start, BothWaysQuantizeTheSameAndSayTheSame) {
  const std::string arguments = "quantize floats -o made.gguf --type q4_k_m --json made.json";
  const auto result = [&] {
    nlohmann::json json = nlohmann::json::parse(read_text_file(folder_ / "made.json"));
    json.erase("peak_memory");
    for (nlohmann::json* timed : {&json, &json["sums"]}) timed->erase("seconds");
    for (nlohmann::json& tensor : json["tensors"]) tensor.erase("seconds");
    return json;
  };
  ASSERT_EQ(run(arguments).code, 0);
  const nlohmann::json light = result();
  ASSERT_EQ(run_full(arguments).code, 0);
  EXPECT_EQ(light, result()) << "the hash of what was written too";
  EXPECT_EQ(light["command_line"], "attar " + arguments);
}

TEST_F(Start, ResultsSayWhatWasTypedWhoeverRanIt) {
  for (const char* model : {"packed.gguf", "floats"}) {
    const std::string arguments = std::string("generate ") + model + " --prompt 'It is' --max-tokens 1 --json text.json";
    ASSERT_EQ(run(arguments).code, 0);
    EXPECT_EQ(nlohmann::json::parse(read_text_file(folder_ / "text.json"))["command_line"], "attar " + arguments);
  }
}

TEST_F(Start, ADeviceThatIsNoneIsNamed) {
  for (const char* arguments : {"generate packed.gguf --prompt Once --device tpu", "bench packed.gguf --device tpu", "generate floats --prompt Once --device tpu"}) {
    const test::RunResult refused = run(arguments);
    EXPECT_EQ(refused.code, 2) << arguments;
    EXPECT_HAS(refused.output, "--device tpu");
  }
  EXPECT_HAS(run("bench --device cuda").output, "on the processor");
  const test::RunResult processor = run("generate packed.gguf --prompt Once --max-tokens 9 --ids --device cpu:0");
  EXPECT_EQ(processor.output, run("generate packed.gguf --prompt Once --max-tokens 9 --ids").output);
}

TEST_F(Start, HandsOverArgumentsStandardInputEnvironmentAndExitCode) {
  const test::RunResult missing = run("eval 'no  such \"model\"' --data text.txt");
  EXPECT_EQ(missing.code, 2);
  EXPECT_HAS(missing.output, "no  such \"model\"");
  const test::RunResult piped = run("generate floats --prompt-file /dev/stdin --max-tokens 0", "printf 'from a pipe' |");
  EXPECT_EQ(piped.code, 0) << piped.output;
  EXPECT_EQ(piped.output, "from a pipe\n");
  fs::create_directories(folder_ / "data/datasets");
  fs::create_directory_symlink(folder_ / "floats", folder_ / "data/datasets/teacher");
  const test::RunResult data = run("generate builtin:teacher --prompt Once --max-tokens 9 --ids", "ATTAR_DATA=" + (folder_ / "data").string());
  EXPECT_EQ(data.code, 0);
  EXPECT_EQ(data.output, run("generate floats --prompt Once --max-tokens 9 --ids").output);
  write_text_file(folder_ / "gate.toml", "[perplexity.value]\nmax = 1\n");
  EXPECT_EQ(run("eval floats --data text.txt --context 8 --gate gate.toml").code, 1);
}

TEST_F(Start, AMissingFullProgramIsNamed) {
  fs::create_directory(folder_ / "bin");
  fs::copy_file(program(), folder_ / "bin/attar");
  const std::string attar = (folder_ / "bin/attar").string();
  EXPECT_EQ(test::run_shell(attar + " inspect " + (folder_ / "floats").string()).code, 0);
  const test::RunResult alone = test::run_shell(attar + " distill --help 2>&1");
  EXPECT_EQ(alone.code, 2);
  EXPECT_HAS(alone.output, "attar: this needs LibTorch");
  EXPECT_HAS(alone.output, (folder_ / "bin/attar-full").string());
  EXPECT_HAS(alone.output, (folder_ / "libexec/attar/attar-full").string());
  EXPECT_HAS(alone.output, "install attar anew");
  // As installed.
  fs::create_directories(folder_ / "libexec/attar");
  fs::create_symlink(full_program(), folder_ / "libexec/attar/attar-full");
  EXPECT_HAS(test::run_shell(attar + " distill --help 2>&1").output, "--teacher");
  fs::remove(folder_ / "libexec/attar/attar-full");
  write_text_file(folder_ / "libexec/attar/attar-full", "not a program");
  const test::RunResult broken = test::run_shell(attar + " distill --help 2>&1");
  EXPECT_EQ(broken.code, 2);
  EXPECT_HAS(broken.output, "cannot run " + (folder_ / "libexec/attar/attar-full").string());
}

// Or the kernels' threads find the cores taken, where a model that runs through them follows one that does not.
TEST_F(Start, OpenBlasIsToldNotToHoldTheCores) {
  const fs::path full = folder_ / "bin/attar-full";
  fs::create_directory(folder_ / "bin");
  fs::copy_file(program(), folder_ / "bin/attar");
  write_text_file(full, "#!/bin/sh\necho \"$OPENBLAS_THREAD_TIMEOUT $*\"\n");
  fs::permissions(full, fs::perms::owner_all);
  const std::string distill = (folder_ / "bin/attar").string() + " distill --help";
  EXPECT_EQ(test::run_shell("env -u OPENBLAS_THREAD_TIMEOUT " + distill).output, "18 distill --help\n");
  EXPECT_EQ(test::run_shell("OPENBLAS_THREAD_TIMEOUT=26 " + distill).output, "26 distill --help\n");
}

}  // namespace
}  // namespace attar
