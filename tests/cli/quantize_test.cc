#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>

#include "base/text.h"
#include "tests/cli/quantize_command.h"

namespace attar {
namespace {

using test::QuantizeCommand;

TEST_F(QuantizeCommand, WritesAGgufWithTheTypesItSays) {
  const test::RunResult result = run("--type q4_0 --json " + (folder_ / "r.json").string());
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_NE(result.output.find("q6_k -> q8_0 (64 columns do not divide into blocks of 256): output.weight"),
            std::string::npos) << result.output;
  const Checkpoint written = open_checkpoint(output_);
  EXPECT_EQ(written.at("model.layers.1.mlp.down_proj.weight").type, Type::kQ4_0);
  EXPECT_EQ(written.at("lm_head.weight").type, Type::kQ8_0);
  EXPECT_EQ(written.at("model.norm.weight").type, Type::kF32);
  const auto json = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_EQ(json["preset"], "q4_0");
  EXPECT_EQ(json["bytes"], fs::file_size(output_));
  EXPECT_EQ(json["tensors"].size(), 2u * 7 + 2);
}

TEST_F(QuantizeCommand, WritesAFolderOfPlainGroups) {
  const fs::path out = folder_ / "packed";
  const test::RunResult result =
      run_on(model_, out, "--type int3_g64 --override ffn_up=affine4_g32 --calibration builtin:calibration --samples 8 --context 64");
  ASSERT_EQ(result.code, 0) << result.output;
  const Checkpoint written = open_checkpoint(out);
  const auto type = [&](const char* name) { return std::string(info(written.at(name).type).name); };
  EXPECT_EQ(type("model.layers.1.self_attn.q_proj.weight"), "affine3_g64");
  EXPECT_EQ(type("model.layers.0.mlp.up_proj.weight"), "affine4_g32");
  EXPECT_EQ(type("lm_head.weight"), "affine8_g64");
  EXPECT_EQ(type("model.norm.weight"), "f16");
  for (const std::string& command : {"inspect " + out.string(), "eval " + out.string() + " --reference " + model_.string() +
                                    " --data builtin:heldout --context 32 --chunks 2", "convert " + out.string() + " -o " +
                                    (folder_ / "decoded.gguf").string() + " --type f16"}) {
    const test::RunResult used = test::run_attar(command);
    EXPECT_EQ(used.code, 0) << used.output;
  }
  EXPECT_EQ(run_on(model_, out, "--target-bpw 5 --calibration builtin:calibration --samples 8 --context 64").code, 0);
}

TEST_F(QuantizeCommand, TypesHaveTheirHomes) {
  expect_refused("--type int3_g64", "which a .gguf cannot hold; give -o a folder");
  expect_refused("--type q4_0 --override ffn_up=affine4_g64", "mlp.up_proj.weight is to be affine4_g64");
  const test::RunResult result = run_on(model_, folder_ / "out", "--type int3_g64 --override ffn_up=q8_0");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("is to be q8_0, which only a .gguf can hold"), std::string::npos) << result.output;
  // Said before the work, not after.
  fs::create_directories(folder_ / "busy");
  write_text_file(folder_ / "busy/notes.txt", "mine");
  const test::RunResult busy = run_on(model_, folder_ / "busy", "--type int3_g64 --override nothing_here=f16");
  EXPECT_EQ(busy.code, 2);
  EXPECT_NE(busy.output.find("holds something else than a model"), std::string::npos) << busy.output;
  expect_nothing_written();
}

TEST_F(QuantizeCommand, SameBytesAtAnyNumberOfThreads) {
  for (const char* method : {"rtn+tune", "awq+gptq", "rotate+fisher+gptq+tune"}) {
    SCOPED_TRACE(method);
    const std::string options =
        cat("--type q4_1 --calibration builtin:calibration --samples 8 --context 64 --seed 3 --method ", method,
            std::strstr(method, "tune") != nullptr ? " --tune-steps 3 --tune-batch 5" : "", " --threads ");
    ASSERT_EQ(run(options + "1").code, 0);
    const std::string once = read_text_file(output_);
    for (const char* threads : {"2", "3"}) {
      const test::RunResult again = run(options + threads);
      ASSERT_EQ(again.code, 0) << again.output;
      EXPECT_TRUE(once == read_text_file(output_)) << threads << " threads";
    }
  }
}

TEST_F(QuantizeCommand, TextThatSaysLittleIsWarnedOf) {
  const auto expect_warned = [&](const std::string& text, int samples, const std::string& warning, const std::string& cure) {
    write_text_file(folder_ / "little.txt", text);
    const std::string options = cat("--type q4_0 --method rtn --context 64 --samples ", samples, " --calibration ", (folder_ / "little.txt").string());
    const test::RunResult result = run(options);
    EXPECT_EQ(result.code, 0) << result.output;
    EXPECT_HAS(result.output, warning);
    fs::remove(output_);
    expect_refused(options + " --strict", cure);
  };
  expect_warned(std::string(200, 'a') + " " + std::string(200, 'b'), 50, "holds only", "give more text");
  expect_warned(std::string(2000, 'a'), 8, "different tokens, and inputs have 64 columns", "give other text");
}

TEST_F(QuantizeCommand, CalibrateOnceRoundOften) {
  const std::string imatrix = (folder_ / "importance.gguf").string();
  const auto measured = test::run_attar("calibrate " + model_.string() + " -o " + imatrix + " --data builtin:calibration --samples 8 --context 64");
  ASSERT_EQ(measured.code, 0) << measured.output;
  EXPECT_NE(measured.output.find("15 matrices, 8 chunks of 64 tokens"), std::string::npos) << measured.output;
  ASSERT_EQ(run("--type q4_0").code, 0);
  const std::string plain = read_text_file(output_);
  const test::RunResult result = run("--type q4_0 --imatrix " + imatrix);
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_NE(read_text_file(output_), plain);
  fs::remove(output_);
  expect_refused("--type q4_0 --imatrix " + model_.string(), "model");
  expect_refused("--type q4_0 --calibration builtin:calibration --imatrix " + imatrix, "give one of the two");
}

TEST_F(QuantizeCommand, TextTheModelWritesCalibratesAtAnyNumberOfThreads) {
  const std::string options = "--type q4_1 --calibration self --samples 9 --context 32 --seed 5";
  ASSERT_EQ(run(options + " --threads 1").code, 0);
  const std::string once = read_text_file(output_);
  ASSERT_EQ(run(options + " --threads 2").code, 0);
  EXPECT_EQ(once, read_text_file(output_));
  ASSERT_EQ(run("--type q4_1 --calibration self --samples 9 --context 32 --seed 6").code, 0);
  EXPECT_NE(once, read_text_file(output_));
  const auto measured = test::run_attar("calibrate " + model_.string() + " -o " + (folder_ / "i.gguf").string() + " --data self --samples 4 --context 32");
  EXPECT_NE(measured.output.find("15 matrices, 4 chunks of 32 tokens"), std::string::npos) << measured.output;
  fs::remove(output_);
  expect_refused("--type q4_1 --calibration self --samples 0", "say how many chunks");
  expect_refused("--type q4_1 --calibration self --samples 9223372036854775807", "more than the 1000000000 tokens that a model is let write");
}

TEST_F(QuantizeCommand, CalibratesOnTokensAndRefusesWhatItCannotRead) {
  const fs::path lines = folder_ / "tokens.jsonl";
  std::string text;
  for (int i = 0; i < 16; ++i) text += "{\"input_ids\": " + nlohmann::json(std::vector<int>(32, 40 + i)).dump() + "}\n";
  write_text_file(lines, text);
  const std::string options = "--type q4_1 --samples 0 --context 32 --calibration " + lines.string();
  EXPECT_EQ(run(options).code, 0);
  fs::remove(output_);
  write_text_file(lines, text + "{\"input_ids\": [257]}\n");
  expect_refused(options, "tokens.jsonl: line 17: \"input_ids\" holds 257 at place 1; the tokenizer knows ids 0 to 256");
  write_text_file(lines, text + "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
  expect_refused(options, "messages need a chat template, and the model's tokenizer has none");
}

TEST_F(QuantizeCommand, TuneIsReportedAndKeepsTheSize) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64 --json " + (folder_ / "r.json").string();
  ASSERT_EQ(run("--type q4_0 --method gptq" + text).code, 0);
  const std::string before = read_text_file(output_);
  const test::RunResult result = run("--type q4_0 --method gptq+tune --tune-steps 4 --tune-batch 2" + text);
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(fs::file_size(output_), before.size());
  EXPECT_NE(read_text_file(output_), before);
  const auto json = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_EQ(json["method"], "gptq+tune");
  ASSERT_EQ(json["gains"].size(), 2u);
  EXPECT_EQ(json["gains"][0]["method"], "gptq");
  EXPECT_EQ(json["gains"][1]["before"], json["tune"]["kl_before"]);
  EXPECT_HAS(result.output, "tune      ");
  double weights = 0, weight_error = 0;
  for (const auto& tensor : json["tensors"]) {
    double count = 1;
    for (const auto& side : tensor["shape"]) count *= side.get<double>();
    weights += count, weight_error += count * tensor["weight_error"].get<double>();
  }
  EXPECT_EQ(json["sums"]["weights"], weights);
  EXPECT_NEAR(json["sums"]["weight_error"].get<double>(), weight_error / weights, 1e-12);
  EXPECT_EQ(json["tune"]["tokens"], 4 * 2 * 63);
  const Checkpoint original = open_checkpoint(model_), tuned = open_checkpoint(output_);
  for (const auto& tensor : json["tensors"]) {  // what the file has lost, not what it had before it was tuned
    const std::string name = tensor["name"];
    const std::vector<float> w = read_floats(original.at(name)), q = read_floats(tuned.at(name));
    double lost = 0, all = 0;
    for (std::size_t i = 0; i < w.size(); ++i) lost += std::pow(static_cast<double>(q[i]) - w[i], 2), all += static_cast<double>(w[i]) * w[i];
    EXPECT_NEAR(tensor["weight_error"].get<double>(), lost / all, 1e-9) << name;
    EXPECT_TRUE(tensor["method"].get<std::string>().ends_with("+tune")) << name;
    EXPECT_TRUE(tensor.contains("clipped")) << name;
    EXPECT_EQ(tensor.contains("output_error"), name != "model.embed_tokens.weight") << name;
  }
  fs::remove(output_);
  expect_refused("--type q4_0 --method gptq+tune", "needs text; give --calibration");
  expect_refused("--type q4_0 --method gptq+tone" + text, "did you mean 'gptq+tune'");
}

TEST_F(QuantizeCommand, MethodsComposeInOneOrder) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64";
  const test::RunResult result = run("--type q4_0 --method rotate+awq+hqq" + text + " --json " + (folder_ / "r.json").string());
  ASSERT_EQ(result.code, 0) << result.output;
  const auto json = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_EQ(json["method"], "rotate+awq+hqq");
  EXPECT_EQ(json["rotate"]["residual_stream"], true);
  EXPECT_LT(json["rotate"]["learned_output_error"], json["rotate"]["random_output_error"]);
  EXPECT_HAS(result.output, "output error of a matrix rounded to nearest, random and learned");
  EXPECT_EQ(json["awq"]["groups"].size(), 2u * 4);
  EXPECT_LE(json["awq"]["output_error_after"], json["awq"]["output_error_before"]);
  EXPECT_LE(json["tensors"][1]["lp_error"], json["tensors"][1]["lp_error_before"]);
  for (const char* rest : {"rotate+rtn", "awq+rtn", "hqq+tune --tune-steps 2 --tune-batch 2", "rotate+awq+gptq+tune --tune-steps 2 --tune-batch 2"})
    EXPECT_EQ(run(std::string("--type q4_0 --method ") + rest + text).code, 0) << rest;
  for (const char* whole : {"hqq", "rotate+hqq", "rotate+rtn"}) EXPECT_EQ(run(std::string("--type q4_0 --method ") + whole).code, 0) << whole;
  EXPECT_EQ(run_on(model_, folder_ / "packed", "--type int3_g32 --method rotate+awq+gptq" + text).code, 0);
  EXPECT_EQ(test::run_attar("inspect " + (folder_ / "packed").string()).code, 0);
}

TEST_F(QuantizeCommand, MethodsThatDoNotComposeAreRefused) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64";
  expect_refused("--type q4_0 --method gptq+awq" + text, "awq cannot come after gptq; the order is rotate, awq, fisher, one of rtn, hqq and gptq, autoround, tune");
  expect_refused("--type q4_0 --method awq+rotate+rtn" + text, "rotate cannot come after awq");
  expect_refused("--type q4_0 --method tune+gptq" + text, "gptq cannot come after tune");
  expect_refused("--type q4_0 --method rtn+gptq" + text, "rtn and gptq both round; give one of them");
  expect_refused("--type q4_0 --method gptq+gptq" + text, "gptq is given twice");
  expect_refused("--type q4_0 --method awq" + text, "says nothing of how to round");
  expect_refused("--type q4_0 --method gptq+" + text, "unknown method");
  expect_refused("--type q4_0 --method fisher+rtn" + text, "fisher tells gptq and autoround what outputs mean, and neither is there");
  expect_refused("--type q4_0 --method hqq+autoround" + text, "hqq looks at weights only, autoround at text");
  expect_refused("--type q4_0 --method awq+rtn", "--method awq+rtn needs text; give --calibration");
  expect_refused("--type q4_0 --method rotate+hqq --calibration " + (folder_ / "none.txt").string(), "none.txt");
  expect_refused("--type q4_0 --method hqq" + text, "hqq looks at weights only; leave out --calibration");
  expect_refused("--type q4_0 --method rotate+rtn --imatrix x", "--imatrix weighs rounding to nearest");
  expect_refused("--type q4_0 --method rtn --effort fast", "excludes");
}

TEST_F(QuantizeCommand, EffortChoosesTheMethods) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64 --json " + (folder_ / "r.json").string();
  const auto method = [&](const std::string& options) {
    const test::RunResult result = run("--type q4_0 " + options + text);
    EXPECT_EQ(result.code, 0) << result.output;
    return nlohmann::json::parse(read_text_file(folder_ / "r.json"))["method"].get<std::string>();
  };
  EXPECT_EQ(method("--effort fast"), "rtn");
  EXPECT_EQ(method("--effort balanced"), "fisher+gptq");
  EXPECT_EQ(method(""), "fisher+gptq");
  EXPECT_EQ(method("--effort best --tune-steps 2 --tune-batch 2"), "rotate+fisher+gptq+tune");
  EXPECT_EQ(method("--method rtn+autoround"), "rtn+autoround");
  fs::remove(output_);
  expect_refused("--type q4_0 --effort balanced", "--effort balanced needs text; give --calibration");
  expect_refused("--type q4_0 --effort balance" + text, "did you mean 'balanced'");
}

// A tied model's values are rotated, its residual stream cannot be: refused where rotate was asked for, in the report where an effort chose it.
TEST_F(QuantizeCommand, BestRotatesWhatCanBe) {
  Checkpoint model = test::random_model();
  model.config.tied_embeddings = true;
  std::erase_if(model.tensors, [](const Tensor& tensor) { return tensor.name == "lm_head.weight"; });
  fs::remove_all(model_);
  write_hf(model, model_);
  const std::string text = " --type q4_0 --override token_embd=q8_0 --calibration builtin:calibration --samples 80 --context 64 --strict --json " + (folder_ / "r.json").string();
  expect_refused("--method rotate+gptq" + text, "the residual stream of");
  const test::RunResult result = run("--effort best --tune-steps 2 --tune-batch 2" + text);
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(result.output.find("warning"), std::string::npos) << result.output;
  const auto rotate = nlohmann::json::parse(read_text_file(folder_ / "r.json"))["rotate"];
  EXPECT_EQ(rotate["residual_stream"], false);
  EXPECT_NE(rotate["left_out"].get<std::string>().find("one matrix"), std::string::npos);
  EXPECT_LT(rotate["learned_output_error"], rotate["random_output_error"]);
}

TEST_F(QuantizeCommand, SourceMayBeAGgufAndRequantizingIsWarnedAbout) {
  ASSERT_EQ(run("--type f16").code, 0);
  const fs::path smaller = folder_ / "small.gguf";
  test::RunResult result = run_on(output_, smaller, "--type q5_0");
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(result.output.find("already quantized"), std::string::npos);
  result = run_on(smaller, folder_ / "smaller.gguf", "--type q4_0");
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_NE(result.output.find("already quantized"), std::string::npos);
  EXPECT_EQ(run_on(smaller, folder_ / "strict.gguf", "--type q4_0 --override output=q8_0 --strict").code, 2);
  EXPECT_FALSE(fs::exists(folder_ / "strict.gguf"));
}

// With LibTorch and without; nothing is written where it is an error.
TEST_F(QuantizeCommand, AMatrixThatVanishesIsSaid) {
  Checkpoint model = test::random_model();
  for (Tensor& tensor : model.tensors) {
    if (tensor.name != "model.layers.1.mlp.up_proj.weight") continue;
    std::vector<float> tiny = read_floats(tensor);
    for (float& value : tiny) value *= 1e-10f;
    tensor = make_tensor(tensor.name, tensor.shape, std::move(tiny));
  }
  write_hf(model, folder_ / "tiny");
  const std::string message = "model.layers.1.mlp.up_proj.weight: nothing but zeros is left of it in q4_0, whose smallest scale is larger than these weights; "
                              "give --override 'blk.1.ffn_up.weight=bf16'";
  for (const char* method : {"rtn", "hqq", "gptq --no-correction --calibration builtin:calibration --samples 8 --context 64"}) {
    const std::string options = cat("--type q4_0 --pure --method ", method);
    const test::RunResult strict = run_on(folder_ / "tiny", output_, options + " --strict");
    EXPECT_EQ(strict.code, 2) << method;
    EXPECT_HAS(strict.output, message);
    expect_nothing_written();
    const test::RunResult warned = run_on(folder_ / "tiny", output_, options), cured = run_on(folder_ / "tiny", folder_ / "cured.gguf", options + " --strict --override 'blk.1.ffn_up.weight=bf16'");
    EXPECT_EQ(warned.code, 0) << warned.output;
    EXPECT_HAS(warned.output, "warning: " + message);
    EXPECT_EQ(cured.code, 0) << cured.output;
    fs::remove(output_), fs::remove(folder_ / "cured.gguf");
  }
}

TEST_F(QuantizeCommand, RefusesWithAReason) {
  expect_refused("--type q4_9", "did you mean 'q4_");
  expect_refused("--type q4_0 --strict", "cannot be q6_k: 64 columns do not divide into blocks of 256");
  expect_refused("--type q4_0 --override ffn_down", "expected REGEX=TYPE");
  expect_refused("--type q4_0 --override ffn_down=q4_2", "unknown type 'q4_2'");
  expect_refused("--type q4_0 --override 'ffn_(=q4_0'", "not a regular expression");
  expect_refused("--type q4_0 --override nothing_here=q8_0", "matches no matrix");
  expect_refused("--type q4_0 --method gptq", "give --calibration");
  expect_refused("--type q4_0 --method gtpq", "did you mean 'gptq'");
  expect_refused("--type q4_0 --calbration x", "did you mean '--calibration'");
  expect_refused("--type q4_0 --calibration " + (folder_ / "missing.txt").string(), "missing.txt");
  write_text_file(folder_ / "short.txt", "too short");
  expect_refused("--type q4_0 --calibration " + (folder_ / "short.txt").string(), "tokens");
}

TEST_F(QuantizeCommand, RefusesOutputsThatCannotBe) {
  EXPECT_EQ(run_on(model_, folder_ / "out.bin", "--type q4_0").code, 2);
  const test::RunResult result = run_on(model_, folder_ / "no" / "such" / "out.gguf", "--type q4_0");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("no folder"), std::string::npos) << result.output;
  EXPECT_EQ(run_on(model_, "/dev/full/out.gguf", "--type q4_0").code, 2);
  fs::create_directory(folder_ / "a.gguf");
  EXPECT_HAS(run_on(model_, folder_ / "a.gguf", "--type q4_0").output, "it is a folder; name a file");
  const std::string late = (folder_ / "no" / "such" / "r.json").string();  // before hours of work, not after
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64";
  expect_refused("--type q4_0 --json " + late + text, "r.json: no folder");
  expect_refused("--target-bpw 5 --sensitivities " + late + text, "r.json: no folder");
  const fs::path packed = folder_ / "packed";
  EXPECT_EQ(run_on(model_, packed, "--type affine4_g32 --json " + (packed / "r.json").string()).code, 0);
  EXPECT_TRUE(fs::exists(packed / "r.json"));
  expect_nothing_written();
}

// Neither what is read, nor one output over another; known before the work.
TEST_F(QuantizeCommand, WhatIsReadIsNotWrittenOver) {
  const fs::path source = folder_ / "source.gguf", imatrix = folder_ / "importance.gguf", text = model_ / "text.txt";
  ASSERT_EQ(test::run_attar("convert " + model_.string() + " -o " + source.string()).code, 0);
  ASSERT_EQ(test::run_attar("calibrate " + model_.string() + " -o " + imatrix.string() + " --data builtin:calibration --samples 4 --context 32").code, 0);
  write_text_file(text, std::string(4000, 'a') + " " + std::string(4000, 'b'));
  std::map<fs::path, std::string> before;
  const std::vector<fs::path> read = {source, imatrix, text, model_ / "model.safetensors", model_ / "config.json"};
  for (const fs::path& file : read) before[file] = read_text_file(file);
  const auto expect = [&](const std::string& command, const std::string& message) {
    const test::RunResult result = test::run_attar(command);
    EXPECT_EQ(result.code, 2) << command;
    EXPECT_HAS(result.output, message);
    for (const fs::path& file : read) EXPECT_TRUE(read_text_file(file) == before[file]) << command << ": " << file;
    expect_nothing_written();
  };
  const std::string q = "quantize ", m = model_.string(), s = source.string(), o = output_.string(), over = "would be written over", twice = "is to be written twice";
  expect(q + s + " -o " + s + " --type q4_0", over);
  expect(q + s + " -o " + m + "/../source.gguf --type q4_0", over);
  expect(q + m + " -o " + m + "/ --type affine4_g32", over);
  expect(q + s + " -o " + m + " --type affine4_g32 --context 32 --calibration " + text.string(), over);  // the folder would be replaced
  expect(q + m + " -o " + imatrix.string() + " --type q4_0 --imatrix " + imatrix.string(), over);
  expect(q + s + " -o " + o + " --type q4_0 --json " + s, over);
  expect(q + s + " -o " + o + " --type q4_0 --json " + o, twice);
  expect(q + m + " -o " + o + " --target-bpw 5 --calibration builtin:calibration --sensitivities " + o, twice);
  expect("calibrate " + s + " -o " + s + " --data builtin:calibration", over);
  expect("calibrate " + s + " -o " + text.string() + " --data " + text.string(), over);
  expect("distill --student " + m + " -o " + o + " --data builtin:train:2 --data " + text.string() + ":0.5 --json " + text.string(), over);
  expect("convert " + s + " -o " + s, over);
  expect("convert " + m + " -o " + m + " --type f16", over);
}

TEST_F(QuantizeCommand, OptionsThatWouldChangeNothingAreRefused) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64";
  expect_refused("--type q4_0 --tune-steps 5", "--tune-steps, --tune-batch and --tune-rate are for tune");
  expect_refused("--type q4_0 --tune-rate 0.5" + text, "are for tune");
  expect_refused("--type q4_0 --damp 0.2", "--damp, --no-act-order and --no-correction are for gptq");
  expect_refused("--type q4_0 --method rtn --no-act-order" + text, "are for gptq");
  expect_refused("--type q4_0 --method hqq --no-correction", "are for gptq");
  expect_refused("--type q4_0 --samples 8", "--samples and --context are of calibration text; give --calibration");
  expect_refused("--target-bpw 5 --pure" + text, "--pure is for --type");
  for (const char* damp : {"nan", "3", "0"})
    expect_refused(cat("--type q4_0 --damp ", damp) + text, cat("--damp: expected a number from 1e-08 to 1, not ", damp));
  expect_refused("--type q4_0 --effort best --tune-rate inf" + text, "--tune-rate: expected a number above 0, not inf");
  expect_refused("--target-kld nan" + text, "--target-kld: expected a number above 0, not nan");
  expect_refused("--target-size 1e30" + text, "--target-size 1e30: expected bytes");
}

TEST_F(QuantizeCommand, NamesTheTensorThatIsNotANumber) {
  Checkpoint broken = test::random_model();
  for (Tensor& tensor : broken.tensors)
    if (tensor.name == "model.layers.1.self_attn.v_proj.weight") {
      QuantizedTensor data = read_packed(tensor);
      const float bad = std::numeric_limits<float>::infinity();
      std::memcpy(data.bytes.data() + 70 * sizeof bad, &bad, sizeof bad);
      tensor = make_tensor(tensor.name, std::move(data));
    }
  write_hf(broken, folder_ / "broken");
  const test::RunResult result = run_on(folder_ / "broken", output_, "--type q4_0");
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.output.find("model.layers.1.self_attn.v_proj.weight holds Inf at row 1, column 6"), std::string::npos)
      << result.output;
  expect_nothing_written();
}

}  // namespace
}  // namespace attar
