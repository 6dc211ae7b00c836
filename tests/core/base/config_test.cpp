// SPDX-License-Identifier: Apache-2.0
#include "core/base/config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <set>

#include "core/base/support.h"
#include "core/base/yaml.h"

namespace klab {
namespace {

struct Train : Configurable {
  int64_t steps = 100;
  double lr = 3e-3;
  bool shuffle = true;
  void visit(Fields& fields) override {
    fields("steps", steps, {1, int64_t{1} << 50}, "Optimizer steps.");
    fields("lr", lr, {-1e308, std::numeric_limits<double>::max()}, "Peak learning rate.");
    fields("shuffle", shuffle, "Draw examples in random order.");
  }
};

// The options depend on the name, like those of a task.
struct Task : Configurable {
  std::string name = "palindrome";
  int64_t length = 10, pairs = 4;
  std::string known_for = name;
  void visit(Fields& fields) override {
    fields.choice("name", name, {"palindrome", "mqar", "stack"}, "Which task.");
    if (known_for != name) length = name == "mqar" ? 64 : 10;  // another task starts with its own defaults
    known_for = name;
    fields("length", length, {1, 1 << 20}, "Tokens in a sequence.");
    if (name == "mqar") fields("pairs", pairs, {1, 1 << 20}, "Key-value pairs.");
  }
};

struct Job : Configurable {
  std::string label = "first";
  std::vector<std::string> pattern = {"kda", "gdn2"};
  std::vector<Value> also;
  Task task;
  Train train;
  void visit(Fields& fields) override {
    fields("label", label, "A readable name.");
    fields("pattern", pattern, "Mixers, repeated over the layers.");
    fields.maps("also", also, "Variants.");
    fields.group("task", task);
    fields.group("train", train);
    fields.renamed("name", "label");
  }
};

void set(Configurable& config, const std::string& key, const std::string& text) {
  assign(config, {{key, text, "command line"}});
}

std::string refusal(const std::string& key, const std::string& text) {
  Job run;
  return message_of<UsageError>([&] { set(run, key, text); });
}

std::vector<Assignment> parse(const std::string& yaml) {
  const Folder folder;
  std::ofstream(folder / "run.yaml") << yaml;
  return read_yaml(folder / "run.yaml");
}

std::string yaml_refusal(const std::string& yaml) {
  return message_of<UsageError>([&] { parse(yaml); });
}

// Parses the YAML text of a config into a new one.
Job reread(Job& run) {
  Job copy;
  assign(copy, parse(to_yaml(run)));
  return copy;
}

TEST(Assign, SetsEveryKindOfField) {
  Job run;
  assign(run, {{"train.steps", "7", "a"},
               {"train.lr", "1e-4", "a"},
               {"train.shuffle", "false", "a"},
               {"label", "x y", "a"},
               {"pattern", "kda, mla", "a"},
               {"task.name", "stack", "a"}});
  EXPECT_EQ(run.train.steps, 7);
  EXPECT_EQ(run.train.lr, 1e-4);
  EXPECT_FALSE(run.train.shuffle);
  EXPECT_EQ(run.label, "x y");
  EXPECT_EQ(run.pattern, (std::vector<std::string>{"kda", "mla"}));
  EXPECT_EQ(run.task.name, "stack");
}

TEST(Assign, TheLastWordCounts) {
  Job run;
  assign(run, {{"train.steps", "7", "run.yaml"}, {"label", "a", "run.yaml"}, {"train.steps", "8", "command line"}});
  EXPECT_EQ(run.train.steps, 8);
}

TEST(Assign, AnUnknownKeyNamesTheNearestAndItsOrigin) {
  const std::string message = refusal("train.step", "3");
  EXPECT_CONTAINS(message, "command line: unknown key 'train.step'; did you mean 'train.steps'?");
}

TEST(Assign, AnUnknownKeyFarFromAllListsTheKeys) {
  const std::string message = refusal("completely.unrelated.thing", "3");
  EXPECT_CONTAINS(message, "train.steps, train.lr, train.shuffle");
}

TEST(Assign, AWrongValueNamesKeyValueAndWhatIsRight) {
  EXPECT_EQ(refusal("train.steps", "ten"), "command line: train.steps = ten must be an integer (for example 64)");
  EXPECT_CONTAINS(refusal("train.lr", "fast"), "train.lr = fast must be a finite number");
  EXPECT_CONTAINS(refusal("train.shuffle", "yes"), "train.shuffle = yes must be true or false");
  EXPECT_CONTAINS(refusal("task.name", "mqra"),
                  "task.name = mqra must be one of: palindrome, mqar, stack; did you mean 'mqar'?");
}

TEST(Assign, NumbersAreWholeTexts) {
  for (const char* text : {"", "3x", "0x10", "1.5", "1e-1", "nan", "inf", "99999999999999999999", "- 3"}) {
    EXPECT_CONTAINS(refusal("train.steps", text), "must be an integer");
  }
  for (const char* text : {"", "1.5.0", "nan", "inf", "-inf", "1e999", "1,5"}) {
    EXPECT_CONTAINS(refusal("train.lr", text), "must be a finite number");
  }
}

TEST(Assign, AnIntegerMayBeWrittenAsAPower) {
  Job run;
  set(run, "train.steps", "1e4");
  EXPECT_EQ(run.train.steps, 10000);
  set(run, "train.steps", "2.5e1");
  EXPECT_EQ(run.train.steps, 25);
  set(run, "train.steps", "1125899906842624");
  EXPECT_EQ(run.train.steps, int64_t{1} << 50);
}

TEST(Assign, ARefusedValueChangesNothing) {
  Job run;
  EXPECT_THROW(set(run, "train.steps", "ten"), UsageError);
  EXPECT_EQ(run.train.steps, 100);
}

TEST(Assign, ListsInBothNotations) {
  Job run;
  for (const char* text : {"kda,gdn", "[kda,gdn]", "[ kda , gdn ]", "kda, gdn", R"(["kda", "gdn"])"}) {
    run.pattern.clear();
    set(run, "pattern", text);
    EXPECT_EQ(run.pattern, (std::vector<std::string>{"kda", "gdn"})) << text;
  }
  set(run, "pattern", "mla");
  EXPECT_EQ(run.pattern, std::vector<std::string>{"mla"});
  set(run, "pattern", R"(["a, b", "say \"c\"", "", d])");
  EXPECT_EQ(run.pattern, (std::vector<std::string>{"a, b", "say \"c\"", "", "d"}));
}

TEST(Assign, AListHasItemsAndItsBrackets) {
  EXPECT_CONTAINS(refusal("pattern", ""), "a list of at least one item");
  EXPECT_CONTAINS(refusal("pattern", "[]"), "a list of at least one item");
  EXPECT_CONTAINS(refusal("pattern", "kda,,gdn"), "a list without empty items");
  EXPECT_CONTAINS(refusal("pattern", "[kda, gdn"), "must be a list");
  EXPECT_CONTAINS(refusal("pattern", "kda]"), "must be a list");
  EXPECT_CONTAINS(refusal("pattern", "\"kda"), "must be a list");
  EXPECT_CONTAINS(refusal("pattern", "\"kda\" gdn"), "must be a list");
}

TEST(DynamicFields, AppearOnceTheirNameIsSet) {
  Job run;
  EXPECT_THROW(set(run, "task.pairs", "8"), UsageError);
  assign(run, {{"task.name", "mqar", "a"}, {"task.pairs", "8", "a"}});
  EXPECT_EQ(run.task.pairs, 8);
}

TEST(DynamicFields, MayStandBeforeTheName) {
  Job run;
  assign(run, {{"task.pairs", "8", "a"}, {"task.length", "128", "a"}, {"task.name", "mqar", "a"}});
  EXPECT_EQ(run.task.pairs, 8);
  EXPECT_EQ(run.task.length, 128) << "lost when the name reset the options";
}

TEST(DynamicFields, AKeyThatALaterNameTakesAwayIsRefusedNotDropped) {
  Job run;
  const std::string message = message_of<UsageError>([&] {
    assign(run, {{"task.name", "mqar", "f"}, {"task.pairs", "8", "f, line 2"}, {"task.name", "stack", "c"}});
  });
  EXPECT_CONTAINS(message, "f, line 2: unknown key 'task.pairs'");
}

TEST(Yaml, NestedAndDottedKeysAreTheSame) {
  Job run;
  assign(run, parse("train:\n  lr: 1e-4\n  steps: 5\ntask.name: mqar\ntask.pairs: 2\n"));
  EXPECT_EQ(run.train.lr, 1e-4);
  EXPECT_EQ(run.train.steps, 5);
  EXPECT_EQ(run.task.pairs, 2);
}

TEST(Yaml, ListsAndWordsOfYamlAreText) {
  Job run;
  assign(run, parse("pattern: [kda, 'a, b']\nlabel: yes\n"));
  EXPECT_EQ(run.pattern, (std::vector<std::string>{"kda", "a, b"}));
  EXPECT_EQ(run.label, "yes");
  assign(run, parse("pattern:\n  - gdn\n  - 3e4\nlabel: 007\n"));
  EXPECT_EQ(run.pattern, (std::vector<std::string>{"gdn", "3e4"}));
  EXPECT_EQ(run.label, "007");
}

TEST(Yaml, AnErrorNamesFileAndLine) {
  Job run;
  const std::string message = message_of<UsageError>([&] { assign(run, parse("label: a\ntrain:\n  stepz: 3\n")); });
  EXPECT_CONTAINS(message, "run.yaml, line 3: unknown key 'train.stepz'; did you mean 'train.steps'?");
}

TEST(Yaml, AKeyStandsOnce) {
  EXPECT_CONTAINS(yaml_refusal("label: a\nlabel: b\n"), "line 2: the key 'label' occurs twice");
  EXPECT_CONTAINS(yaml_refusal("train:\n  lr: 1\ntrain:\n  steps: 2\n"), "line 3: the key 'train' occurs twice");
  EXPECT_CONTAINS(yaml_refusal("train:\n  lr: 1\ntrain.lr: 2\n"), "line 3: the key 'train.lr' occurs twice");
}

TEST(Yaml, WhatIsNoConfigIsRefused) {
  EXPECT_CONTAINS(yaml_refusal("- a\n- b\n"), "a config is a map");
  EXPECT_CONTAINS(yaml_refusal("just words\n"), "a config is a map");
  EXPECT_CONTAINS(yaml_refusal("a: [1\n"), "not valid YAML");
  EXPECT_CONTAINS(yaml_refusal("label:\n"), "'label' has no value");
  EXPECT_CONTAINS(yaml_refusal("pattern: [[a], b]\n"), "must be a list of plain values or of maps");
  EXPECT_CONTAINS(yaml_refusal("? [a, b]\n: 3\n"), "a key must be a plain word");
  EXPECT_CONTAINS(yaml_refusal("label: a\n---\nlabel: b\n"), "more than one document");
  EXPECT_CONTAINS(yaml_refusal("a: &x {b: *x}\n"), "nested too deeply");
  EXPECT_CONTAINS(yaml_refusal("train: {}\n"), "'train' has no value");
}

TEST(Yaml, AliasesMayStandForManyValuesButNotWithoutEnd) {
  Job run;
  assign(run, parse("label: &word a\npattern: [*word, *word, *word]\n"));
  EXPECT_EQ(run.pattern, (std::vector<std::string>{"a", "a", "a"}));
  EXPECT_CONTAINS(yaml_refusal("also: &x [{b: *x}]\n"), "run.yaml, line 1: nested too deeply");
  EXPECT_CONTAINS(yaml_refusal("? &k [*k]\n: 1\n"), "nested too deeply");
  std::string lists = "l0: &l0 [{a: 1}, {a: 1}]\n", maps = "m0: &m0 {a: 1, b: 1}\n";
  for (int i = 1; i <= 18; ++i) {
    lists += fmt::format("l{0}: &l{0} [{{a: *l{1}, b: *l{1}}}]\n", i, i - 1);
    maps += fmt::format("m{0}: &m{0} {{a: *m{1}, b: *m{1}}}\n", i, i - 1);
  }
  EXPECT_CONTAINS(yaml_refusal(maps), "run.yaml: holds more than 100000 values");
  EXPECT_CONTAINS(yaml_refusal(lists), "nested too deeply");
  EXPECT_CONTAINS(message_of<UsageError>([] { parse_yaml_list("&x [*x]"); }), "nested too deeply");
}

TEST(Yaml, TextsWithoutEndAreRefused) {
  EXPECT_CONTAINS(yaml_refusal(std::string((2 << 20) + 1, ' ')), "run.yaml: 2097153 bytes of YAML");
  EXPECT_CONTAINS(yaml_refusal("a: " + std::string(20'000, '[')), "not valid YAML");
}

TEST(Yaml, AnEmptyFileSaysNothing) {
  EXPECT_TRUE(parse("").empty());
  EXPECT_TRUE(parse("# only a comment\n").empty());
}

TEST(Yaml, AFileMayBeADeltaOverAnother) {
  const Folder folder;
  std::ofstream(folder / "base.yaml") << "label: base\ntrain: {lr: 0.5, steps: 7}\n";
  std::ofstream(folder / "delta.yaml") << "extends: base.yaml\ntrain: {lr: 0.25}\n";
  Job run;
  assign(run, read_yaml(folder / "delta.yaml"));
  EXPECT_EQ(run.label, "base");
  EXPECT_EQ(run.train.steps, 7);
  EXPECT_EQ(run.train.lr, 0.25);
  std::ofstream(folder / "circle.yaml") << "extends: circle.yaml\n";
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_yaml(folder / "circle.yaml"); }), "extend one another");
  std::ofstream(folder / "lost.yaml") << "extends: none.yaml\n";
  EXPECT_CONTAINS(failure_of([&] { read_yaml(folder / "lost.yaml"); }), "none.yaml");
}

TEST(Yaml, AFileThatCannotBeReadIsAFailure) {
  const Folder folder;
  EXPECT_CONTAINS(failure_of([&] { read_yaml(folder / "none.yaml"); }), "none.yaml");
  EXPECT_CONTAINS(failure_of([&] { read_yaml(folder.path()); }), "folder");
}

TEST(Yaml, RoundTripKeepsEveryFieldAndTheHash) {
  Job run;
  run.label = "second run";
  run.pattern = {"gdn", "kda", "mla_rope"};
  run.task.name = "mqar";
  run.task.known_for = "mqar";
  run.task.pairs = 9;
  run.train = {};
  run.train.steps = 1234567890123;
  run.train.lr = 0.1 + 0.2;
  run.train.shuffle = false;
  Job copy = reread(run);
  EXPECT_EQ(to_yaml(copy), to_yaml(run));
  EXPECT_EQ(config_hash(copy), config_hash(run));
  EXPECT_EQ(copy.train.lr, run.train.lr);
  EXPECT_EQ(copy.train.steps, run.train.steps);
}

TEST(Yaml, NumbersSurviveExactly) {
  for (const double lr : {1e-300, 5e-324, 1.7976931348623157e308, 1e22, 100000.0, 123456789.125, -0.1, 3.0}) {
    Job run;
    run.train.lr = lr;
    EXPECT_EQ(reread(run).train.lr, lr);
  }
}

const std::vector<std::string> kHostileTexts = {"yes",       "no",       "null",
                                                "Null",      "NULL",     "~",
                                                "true",      "on",       "",
                                                " ",         " #x",      "# x",
                                                "x #y",      "a: b",     "a:",
                                                ":",         "-",        "--",
                                                "---",       "...",      "- a",
                                                ".",         "?",        "? a",
                                                "[a]",       "[a",       "{a: b}",
                                                "a, b",      ",",        "'",
                                                "\"",        "it's",     "\"q\"",
                                                "\\",        "\\n",      "a\nb",
                                                "\n",        "\ttab",    " lead",
                                                "trail ",    "&a",       "*a",
                                                "!a",        "!!int 3",  "|",
                                                ">",         "%a",       "@a",
                                                "`a`",       "007",      "1e4",
                                                "0x10",      "1_000",    "12:30",
                                                "-5",        ".5",       "nan",
                                                ".nan",      ".inf",     "2024-01-01",
                                                "=",         "<<",       "é",
                                                "日本語",    "🙂",     "\x01",
                                                "\x7f",      "\xC2\x85", "\xEF\xBB\xBF bom",
                                                "a/b.c-d_e", "gdn2"};

TEST(Yaml, HostileTextSurvivesExactly) {
  for (const std::string& text : kHostileTexts) {
    Job run;
    run.label = text;
    EXPECT_EQ(reread(run).label, text) << to_yaml(run);
  }
}

TEST(Yaml, HostileListItemsSurviveExactly) {
  for (const std::string& text : kHostileTexts) {
    Job run;
    run.pattern = {"kda", text, "gdn"};
    EXPECT_EQ(reread(run).pattern, run.pattern) << to_yaml(run);
    run.pattern = {text};
    EXPECT_EQ(reread(run).pattern, run.pattern) << to_yaml(run);
  }
}

// Other YAML parsers read these words as booleans or null, so they must be quoted.
TEST(Yaml, WordsThatYamlReadsOtherwiseAreQuoted) {
  for (const char* word : {"yes", "no", "on", "off", "null", "true", "False", "Y"}) {
    Job run;
    run.label = word;
    EXPECT_CONTAINS(to_yaml(run), std::string("label: \"") + word + "\"");
  }
}

TEST(Yaml, PlainWordsStayReadable) {
  Job run;
  EXPECT_CONTAINS(to_yaml(run),
                  "label: first\npattern: [kda, gdn2]\nalso: []\ntask:\n  name: palindrome\n  length: 10\n");
}

TEST(Hash, ChangesWithEveryField) {
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"label", "other"},           {"pattern", "kda"},     {"pattern", "gdn2,kda"},
      {"pattern", "\"kda, gdn2\""}, {"task.name", "stack"}, {"task.length", "11"},
      {"task.name", "mqar"},        {"train.steps", "101"}, {"train.lr", "3.0000000000000005e-3"},
      {"train.shuffle", "false"}};
  Job unchanged;
  std::set<std::string> hashes = {config_hash(unchanged)};
  for (const auto& [key, text] : changes) {
    Job run;
    set(run, key, text);
    hashes.insert(config_hash(run));
  }
  EXPECT_EQ(hashes.size(), changes.size() + 1);
}

TEST(Hash, IsSixteenHexadecimalDigits) {
  Job run;
  const std::string hash = config_hash(run);
  EXPECT_EQ(hash.size(), 16u);
  EXPECT_EQ(hash.find_first_not_of("0123456789abcdef"), std::string::npos);
}

TEST(Hash, DoesNotDependOnHowAValueWasWritten) {
  Job a, b;
  set(a, "train.lr", "0.001");
  set(b, "train.lr", "1e-3");
  EXPECT_EQ(config_hash(a), config_hash(b));
}

TEST(Json, ValuesHaveTheirTypes) {
  Job run;
  run.label = "12";
  run.pattern = {"7", "a, b"};
  run.train.lr = 1.5;
  EXPECT_EQ(to_json(run), R"({
  "label": "12",
  "pattern": [
    "7",
    "a, b"
  ],
  "also": [],
  "task": {
    "name": "palindrome",
    "length": 10
  },
  "train": {
    "steps": 100,
    "lr": 1.5,
    "shuffle": true
  }
})");
}

TEST(Text, MustBeUtf8) {
  EXPECT_CONTAINS(refusal("label", "caf\xe9"), "UTF-8");
  EXPECT_CONTAINS(refusal("pattern", "kda,caf\xe9"), "UTF-8");
}

TEST(Range, SaysWhatIsAllowedAndChangesNothing) {
  Job run;
  EXPECT_EQ(message_of<UsageError>([&] { set(run, "train.steps", "0"); }),
            "command line: train.steps = 0 must be between 1 and 1125899906842624");
  EXPECT_EQ(run.train.steps, 100);
  set(run, "train.steps", "1");
  EXPECT_EQ(run.train.steps, 1);
}

TEST(Range, MayLeaveOutAnEnd) {
  struct Share : Configurable {
    double above = 0.5, below = 0.5;
    void visit(Fields& fields) override {
      fields("above", above, {0, 1, Ends::above_least}, "");
      fields("below", below, {0, 1, Ends::below_most}, "");
    }
  } share;
  EXPECT_CONTAINS(message_of<UsageError>([&] { set(share, "above", "0"); }), "must be above 0 and at most 1");
  EXPECT_CONTAINS(message_of<UsageError>([&] { set(share, "below", "1"); }), "must be at least 0 and below 1");
  set(share, "above", "1");
  set(share, "below", "0");
  EXPECT_EQ(share.above, 1);
  EXPECT_EQ(share.below, 0);
}

TEST(Range, IsCheckedForMembersThatWereSetDirectly) {
  Job run;
  EXPECT_NO_THROW(check_values(run));
  run.train.steps = -3;
  EXPECT_CONTAINS(message_of<UsageError>([&] { check_values(run); }), "train.steps = -3 must be between 1 and");
  run.train.steps = 3;
  run.task.known_for = run.task.name = "stak";
  EXPECT_CONTAINS(message_of<UsageError>([&] { check_values(run); }), "task.name = stak must be one of");
}

TEST(Renamed, AnOldKeyIsRefusedWithItsNewName) {
  EXPECT_EQ(refusal("name", "a"), "command line: 'name' is now called 'label'");
}

TEST(Typed, AFieldTakesNumbersAsTheyAre) {
  Job run;
  assign(run, {{"train.steps", 12, ""}, {"train.lr", 1, ""}, {"train.shuffle", false, ""}});
  EXPECT_EQ(run.train.steps, 12);
  EXPECT_EQ(run.train.lr, 1.0);
  EXPECT_FALSE(run.train.shuffle);
  const auto refused = [&](const char* key, const Value& value) {
    return message_of<UsageError>([&] { assign(run, {{key, value, "code"}}); });
  };
  EXPECT_CONTAINS(refused("train.steps", 1.5), "train.steps = 1.5 must be an integer");
  EXPECT_CONTAINS(refused("train.steps", (uint64_t{1} << 63) + 5), "train.steps = 9223372036854775813 must be");
  EXPECT_CONTAINS(refused("train.shuffle", 1), "must be true or false");
  EXPECT_CONTAINS(refused("train.steps", Value::array({1})), "must be an integer");
}

TEST(Maps, ComeFromYamlAndTheCommandLineAlike) {
  Job nested, line, bracketed;
  assign(nested, parse("also:\n  - {length: 128, mqar: {pairs: 8}}\n  - length: 256\n    name: '7'\n    on: true\n"));
  set(line, "also", "{length: 128, mqar.pairs: 8}, {length: 256, name: '7', on: true}");
  set(bracketed, "also", "[{length: 128, mqar.pairs: 8}, {length: 256, name: \"7\", on: true}]");
  const std::vector<Value> wanted = {{{"length", 128}, {"mqar.pairs", 8}},
                                     {{"length", 256}, {"name", "7"}, {"on", true}}};
  EXPECT_EQ(nested.also, wanted);
  EXPECT_EQ(line.also, wanted);
  EXPECT_EQ(bracketed.also, wanted);
  Job copy = reread(nested);
  EXPECT_EQ(copy.also, wanted) << to_yaml(nested);
  EXPECT_EQ(config_hash(copy), config_hash(nested));
  set(copy, "also", "[]");
  EXPECT_TRUE(copy.also.empty());
}

TEST(Maps, AreMapsAndNothingElse) {
  EXPECT_CONTAINS(refusal("also", "length=256"), "also = length=256 must be a list of maps, such as");
  EXPECT_CONTAINS(refusal("also", "[{}]"), "must be a list of maps");
  EXPECT_CONTAINS(refusal("also", "{length: 1, length: 2}"), "'length' occurs twice");
}

TEST(AnyConfig, ACopyIsDeep) {
  AnyConfig first{Train()};
  AnyConfig second = first;
  set(second.get(), "steps", "7");
  EXPECT_EQ(first.as<Train>().steps, 100);
  EXPECT_EQ(second.as<Train>().steps, 7);
  first = second;
  set(second.get(), "steps", "8");
  EXPECT_EQ(first.as<Train>().steps, 7);
  EXPECT_THROW(first.as<Task>(), std::bad_any_cast);
}

TEST(Require, SaysKeyValueAndRule) {
  EXPECT_NO_THROW(require(true, "a", "b", "c"));
  EXPECT_EQ(message_of<UsageError>([] { require(false, "train.lr", "-1", "must be positive"); }),
            "train.lr = -1 must be positive");
}

}  // namespace
}  // namespace klab
