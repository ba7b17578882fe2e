#include "eval/task.h"

#include <functional>

#include "base/error.h"
#include "base/files.h"
#include "tests/support.h"

namespace attar {
namespace {

class TaskFile : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& content) {
    write_text_file(folder_ / name, content);
    return (folder_ / name).string();
  }
  Task read(const std::string& lines, const TaskOptions& options = {}) { return read_task(write("t.jsonl", lines), options); }
  std::string error(const std::string& lines, const TaskOptions& options = {}) {
    return test::error_of([&] { read(lines, options); });
  }
  std::string toml_error(const std::string& toml) {
    write("items.jsonl", kChoices);
    return test::error_of([&] { read_task(write("t.toml", toml), {}); });
  }

  static constexpr const char* kChoices =
      "{\"query\": \"one\", \"choices\": [\"a\", \"b\"], \"gold\": 1}\n\n{\"query\": \"two\", \"choices\": [\"c\", \"d\", \"e\"], \"gold\": 0}\n"
      "{\"query\": \"three\", \"choices\": [\"f\", \"g\"], \"gold\": 0}\n";
  test::TempFolder folder_;
};

TEST_F(TaskFile, KindsAreKnownByTheirFields) {
  Task task = read(kChoices);
  EXPECT_EQ(task.name, "t");
  EXPECT_EQ(task.kind, TaskKind::kMultipleChoice);
  ASSERT_EQ(task.items.size(), 3u);
  EXPECT_EQ(task.items[1].contexts, std::vector<std::string>{"two"});
  EXPECT_EQ(task.items[1].requests(), 3u);
  EXPECT_TRUE(task.items[1].where.ends_with("t.jsonl:3")) << "empty lines count: " << task.items[1].where;
  task = read("{\"context_options\": [\"x\", \"y\"], \"continuation\": \"z\", \"gold\": 1}");
  EXPECT_EQ(task.kind, TaskKind::kTwoContexts);
  EXPECT_EQ(task.items[0].context(1) + task.delimiter + task.items[0].continuation(1), "y z");
  EXPECT_EQ(read("{\"context\": \"x\", \"continuation\": \"z\"}").kind, TaskKind::kContinuation);
  task = read("{\"query\": \"x\", \"answer\": [\"z\", \"Z\"]}");
  EXPECT_EQ(task.kind, TaskKind::kGenerated);
  EXPECT_EQ(task.items[0].continuations.size(), 2u);
}

TEST_F(TaskFile, BadLinesAreNamed) {
  const std::string good = "{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 1}\n";
  const auto second = [&](const std::string& line) { return error(good + line); };
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": 2}"), "t.jsonl:2: 'gold' is 2; it must be the index of one of the 2");
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": -1}"), "'gold' is -1");
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [\"a\", \"b\"], \"gold\": \"a\"}"), "'gold' is \"a\"");
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [\"a\", \"\"], \"gold\": 0}"), "t.jsonl:2: 'choices' number 1 is empty");
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [], \"gold\": 0}"), "must be a list");
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [\"a\", 3], \"gold\": 0}"), "holds 3");
  EXPECT_HAS(second("{\"choices\": [\"a\", \"b\"], \"gold\": 0}"), "t.jsonl:2: no field 'query'; the line has choices, gold");
  EXPECT_HAS(second("{\"query\": \"q\", \"choices\": [\"a\", \"b\"]}"), "t.jsonl:2: no field 'gold'");
  EXPECT_HAS(second("{\"query\": 3, \"choices\": [\"a\", \"b\"], \"gold\": 0}"), "'query' must be a string");
  EXPECT_HAS(second("[1]"), "t.jsonl:2: not a JSON object");
  EXPECT_HAS(second("{\"query\": "), "t.jsonl:2: not a JSON object");
  EXPECT_HAS(error("{\"context\": \"c\", \"continuation\": \"\"}"), "t.jsonl:1: 'continuation' is empty");
  EXPECT_HAS(error("{\"question\": \"q\"}"), "t.jsonl:1: its fields are those of no kind of task");
  EXPECT_HAS(error(""), "no item");
  EXPECT_HAS(error("\n\n"), "no item");
  EXPECT_HAS(error(good + "\xff"), "is not UTF-8");
  EXPECT_HAS(test::error_of([] { read_task("/nowhere/t.jsonl", {}); }), "/nowhere/t.jsonl");
  EXPECT_HAS(test::error_of([&] { read_task(write("t.csv", "a"), {}); }), "neither a .jsonl");
  EXPECT_HAS(test::error_of([&] { read_task(write("a b.jsonl", good), {}); }), "'a b' is not one word");
}

TEST_F(TaskFile, ATaskFileSaysHowToAsk) {
  write("items.jsonl",
        "{\"question\": \"Why?\", \"options\": [\"a\", \"b\"], \"label\": 1}\n{\"question\": \"How?\", \"options\": [\"c\", \"d\"], \"label\": 0}\n");
  const Task task = read_task(write("my.toml",
                                    "name = \"mine\"\nitems = \"items.jsonl\"\nkind = \"multiple_choice\"\nprompt = \"Q: {question} {not a field}\\nA:\"\n"
                                    "delimiter = \"_\"\ndescription = \"Answer.\\n\"\n[fields]\nchoices = \"options\"\ngold = \"label\"\n"),
                              {});
  EXPECT_EQ(task.name, "mine");
  EXPECT_EQ(task.items[0].context(0), "Answer.\nQ: Why? {not a field}\nA:");
  EXPECT_EQ(task.delimiter, "_");
  EXPECT_EQ(task.items[0].gold, 1);
}

TEST_F(TaskFile, BadTaskFiles) {
  EXPECT_HAS(toml_error("name = \"x\"\n"), "no items");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\npromt = \"x\"\n"), "line 2: unknown key 'promt'; did you mean 'prompt'?");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nshots = -1\n"), "whole number");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nkind = \"multiple-choice\"\n"), "did you mean 'multiple_choice'?");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nkind = \"continuation\"\n"), "items.jsonl:1: no field 'context'");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nprompt = \"{quest}\"\n"), "items.jsonl:1: no field 'quest'");
  EXPECT_HAS(toml_error("items = \"nowhere.jsonl\"\n"), "nowhere.jsonl");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nname = \"a.b\"\n"), "not one word");
  EXPECT_HAS(toml_error("items = \n"), "not TOML");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nmax_tokens = 0\n"), "at least 1");
  EXPECT_HAS(toml_error("items = \"items.jsonl\"\nextract = \"(\"\n"), "extract");
}

TEST_F(TaskFile, AnswersOfWhichNothingIsLeftAreRefused) {
  EXPECT_HAS(error("{\"query\": \"q\", \"answer\": \"x\"}\n{\"query\": \"q\", \"answer\": \" \"}"), "t.jsonl:2: of the answer ' ' nothing is left");
  write("dots.jsonl", "{\"query\": \"q\", \"answer\": [\"right\", \"...\"]}\n");
  EXPECT_NO_THROW(read_task(write("d.toml", "items = \"dots.jsonl\"\n"), {}));
  EXPECT_HAS(test::error_of([&] { read_task(write("d.toml", "items = \"dots.jsonl\"\nignore_punctuation = true\n"), {}); }), "of the answer '...' nothing is left");
}

TEST_F(TaskFile, ShotsAreSolvedAndNeverTheQuestionItself) {
  std::string lines;
  for (const char* name : {"a", "b", "c", "d"})
    lines += std::string("{\"query\": \"q") + name + "\", \"choices\": [\"wrong\", \"right" + name + "\"], \"gold\": 1}\n";
  const Task task = read(lines, {.shots = 2, .seed = 3});
  for (const TaskItem& item : task.items) {
    const std::string& context = item.context(0);
    const std::string question = context.substr(context.rfind('\n') + 1);
    EXPECT_EQ(context.find(question), context.size() - question.size()) << "not among its own examples: " << context;
    EXPECT_EQ(std::count(context.begin(), context.end(), '\n'), 4) << context;
    EXPECT_HAS(context, "right");
    EXPECT_EQ(context.find("wrong"), std::string::npos);
  }
  EXPECT_EQ(task.hash(), read(lines, {.shots = 2, .seed = 3}).hash());
  EXPECT_NE(task.hash(), read(lines, {.shots = 2, .seed = 4}).hash());
  EXPECT_NE(task.hash(), read(lines, {}).hash());
  EXPECT_HAS(error(lines, {.shots = 4}), "only 4 items");
  write("other.jsonl", "{\"query\": \"shot\", \"choices\": [\"s\", \"t\"], \"gold\": 0}\n");
  write("items.jsonl", lines);
  const Task separate = read_task(write("s.toml", "items = \"items.jsonl\"\nshots = 1\nshots_from = \"other.jsonl\"\n"), {});
  EXPECT_EQ(separate.items[0].context(0), "shot s\n\nqa");
}

TEST_F(TaskFile, TheHashIsOfWhatDecidesAScore) {
  const Task task = read(kChoices);
  EXPECT_EQ(task.hash(), read(kChoices).hash());
  EXPECT_NE(task.hash(), read(kChoices, {.limit = 2}).hash());
  Task other = task;
  other.delimiter = "";
  EXPECT_NE(task.hash(), other.hash());
  other = task;
  other.items[0].gold = 0;
  EXPECT_NE(task.hash(), other.hash());
  EXPECT_EQ(read(kChoices, {.limit = 2}).items.size(), 2u);
}

TEST_F(TaskFile, BuiltInItems) {
  const Task task = cloze_task(cloze_items(Split::kHeldout, 8));
  EXPECT_EQ(task.items.size(), 8u);
  EXPECT_EQ(task.items[0].requests(), 4u);
  EXPECT_EQ(task.delimiter, "");
}

}  // namespace
}  // namespace attar
