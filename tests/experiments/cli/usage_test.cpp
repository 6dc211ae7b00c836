// SPDX-License-Identifier: Apache-2.0
// Bad input of every kind: the message names the error and the allowed values, the exit status is 2 (or 1).
#include "core/base/file.h"
#include "core/base/support.h"
#include "core/base/text.h"
#include "experiments/cli/support.h"

#include <map>
#include <nlohmann/json.hpp>

namespace klab {
namespace {

using Usage = ProgramTest;

struct Bad {
  std::vector<std::string> arguments;
  int status;
  std::string words;  // in the message
};

void expect_refused(const Bad& bad) {
  const Finished run = klab(bad.arguments);
  EXPECT_EQ(run.status, bad.status) << join(bad.arguments, " ") << "\n" << run.err;
  EXPECT_NE(run.err.find(bad.words), std::string::npos) << join(bad.arguments, " ") << "\n" << run.err;
  EXPECT_EQ(run.out, "");
}

TEST_F(Usage, BadFlags) {
  for (const Bad& bad : std::vector<Bad>{
           {{}, 2, "subcommand"},
           {{"trian"}, 2, "unknown command 'trian'; did you mean 'train'?"},
           {{"tran", "--task.name", "mqar"}, 2, "unknown command 'tran'; did you mean 'train'?"},
           {{"generate", "--modle", "x"}, 2, "unknown option '--modle'; did you mean '--model'?"},
           {{"tasks", "--cuont", "5"}, 2, "unknown option '--cuont'; did you mean '--count'?"},
           {{"demo", "--device", "cpu"}, 2, "demo does not accept --device"},
           {{"demo", "--threads", "2"}, 2, "demo does not accept --threads"},
           {{"model", "--seed", "1"}, 2, "model does not accept --seed"},
           {{"--quiet", "plot", path("none.csv")}, 2, "plot does not accept --quiet"},
           {{"resume", path("none"), "--out", path("x")}, 2, "resume does not accept --out"},
           {{"train", "--task.nam", "mqar"}, 2, "did you mean '--task.name'?"},
           {{"train", "--train.steps", "many"}, 2, "train.steps = many must be an integer"},
           {{"train", "--train.steps", "0"}, 2, "train.steps = 0 must be between 1 and"},
           {{"train", "--train.lr", "nan"}, 2, "must be a finite number"},
           {{"train", "--model.pattern", "kda,gnd"}, 2, "Known: kda, gdn, mamba2"},
           {{"train", "--task.name", "mqr"}, 2, "did you mean 'mqar'?"},
           {{"train", "--train.clip", "1"}, 2, "--train.clip is now --train.max_grad_norm"},
           {{"train", "--model.layers", "1000000000"}, 2, "model.layers = 1000000000 must be between 1 and 4096"},
           {{"train", "--model.width", "1000000"}, 2, "model.width = 1000000, model.layers = 2: "},
           {{"train", "--test.also", "length=64"}, 2, "test.also = length=64 must be a list of maps"},
           {{"train", "--task.vocab", "7"}, 2, "task.vocab"},
           {{"train", "--task.stack.stacks", "4"}, 2, "task.stack.stacks"},  // the task is mqar
           {{"train", "--model.head_dim", "1000"}, 2, "at most 256"},
           {{"train", "--threads", "0"}, 2, "threads"},
           {{"train", "--device", "tpu"}, 2, "tpu"},
           {{"model", "--length", "-3"}, 2, "length"},
           {{"tasks", "palindrom"}, 2, "palindrome"},
           {{"tasks", "palindrome", "--task.length", "2"}, 2, "task.length"},
           {{"check", "--dtype", "float8"}, 2, "float8"},
           {{"check", "--operator", "nonsense"}, 2, "no operator matches"},
           {{"plot", path("none.csv")}, 2, "none.csv"},
           {{"sweep", path("none.yaml")}, 2, "none.yaml"},
           {{"study", path("none.yaml")}, 2, "none.yaml"},
           {{"study"}, 2, "FILE"},
           {{"study", path("none.yaml"), "--seed", "1"}, 2, "study does not accept --seed"},
           {{"study", path("none.yaml"), "--budget", "0"}, 2, "budget"},
           {{"verify", path("none")}, 2, "none' is not the results of a study"},
           {{"verify", path("none"), "--out", path("x")}, 2, "verify does not accept --out"},
           {{"verfy", path("none")}, 2, "unknown command 'verfy'; did you mean 'verify'?"},
           {{"model", path("none.yaml")}, 2, "none.yaml"},
           {{"compare", path("none")}, 2, "none"},
           {{"inspect", path("none")}, 2, "none"},
           {{"export", path("none"), "--out", path("x")}, 2, "none"},
           {{"logits", "--model", path("none"), "--tokens", "1", "--out", path("x")}, 2, "none"},
           {{"chat", "--model", path("none")}, 2, "none"},
           {{"resume", path("none")}, 2, "none"},
       }) {
    expect_refused(bad);
  }
}

// An unknown option is named, not the word behind it, which may be its value.
TEST_F(Usage, EveryCommandNamesTheUnknownOption) {
  const std::map<std::string, std::pair<std::string, std::string>> own = {
      {"generate", {"--top_k", "--top-k"}},
      {"chat", {"--top_k", "--top-k"}},
      {"logits", {"--tokens_file", "--tokens-file"}},
      {"export", {"--shard_gigabytes", "--shard-gigabytes"}},
      {"inspect", {"--most_tokens", "--most-tokens"}},
      {"bench", {"--prompt_tokens", "--prompt-tokens"}},
      {"plot", {"--group_by", "--group-by"}}};
  for (const char* command :
       {"demo", "train",     "resume", "rl",    "sweep",  "study",    "verify", "compare", "capacity", "inspect",
        "plot", "reproduce", "tasks",  "model", "logits", "generate", "chat",   "export",  "check",    "bench"}) {
    const auto found = own.find(command);
    const auto [wrong, right] =
        found != own.end() ? found->second : std::pair<std::string, std::string>("--quiett", "--quiet");
    expect_refused({{command, wrong, "5"}, 2, "unknown option '" + wrong + "'; did you mean '" + right + "'?"});
  }
}

TEST_F(Usage, MessagesHoldNoControlCharacters) {
  const Bad file{{"plot", path("\x1b[2J\x9b.csv")}, 2, "\\x1b[2J\\x9b.csv"};
  const Bad value{{"train", "--task.name", "mqar\x07\r"}, 2, "mqar\\x07\\x0d"};
  const Bad option{{"generate", "--mod\x1b[2Jel", "x"}, 2, "--mod\\x1b[2Jel"};
  for (const Bad& bad : {file, value, option}) {
    expect_refused(bad);
    EXPECT_EQ(klab(bad.arguments).err.find_first_of("\x1b\x07\r\x9b"), std::string::npos);
  }
}

TEST_F(Usage, BadConfigFiles) {
  const auto yaml = [&](const std::string& text) {
    write_file(path("c.yaml"), text);
    return std::vector<std::string>{"train", path("c.yaml"), "--out", path("run")};
  };
  expect_refused({{"train", path("missing.yaml")}, 2, "missing.yaml"});
  expect_refused({yaml("train:\n  lrr: 1\n"), 2, "line 2: unknown key 'train.lrr'; did you mean 'train.lr'?"});
  expect_refused({yaml("train:\n  lr: fast\n"), 2, "lr = fast must be a finite number"});
  expect_refused({yaml("train: [1, 2\n"), 2, "not valid YAML"});
  expect_refused({yaml("- a\n- b\n"), 2, "map"});
  expect_refused({yaml("train:\n  lr: 1e-3\n  lr: 2e-3\n"), 2, "twice"});
  EXPECT_FALSE(std::filesystem::exists(path("run")));
}

TEST_F(Usage, UnwritableFolders) {
  write_file(path("file"), "");
  expect_refused({tiny_run(path("file/run")), 1, "file/run"});
  if (::geteuid() == 0) GTEST_SKIP() << "permission bits do not apply to root";
  std::filesystem::create_directory(path("locked"));
  std::filesystem::permissions(path("locked"), std::filesystem::perms::owner_read);
  expect_refused({tiny_run(path("locked/run")), 1, "locked/run"});
}

TEST_F(Usage, EveryCommandHasHelpWithAnExample) {
  for (const char* command :
       {"demo", "train", "resume", "study", "verify", "tasks", "model", "plot", "check", "bench"}) {
    const Finished run = klab({command, "--help"});
    EXPECT_EQ(run.status, 0);
    EXPECT_NE(run.out.find("Example:\n  ./klab " + std::string(command)), std::string::npos) << run.out;
  }
  EXPECT_EQ(klab({"--version"}).out.rfind("klab ", 0), 0u);
}

TEST_F(Usage, ListsPrintOneNameALine) {
  EXPECT_EQ(klab({"model", "--list"}).out.substr(0, 15), "kda\ngdn\nmamba2\n");
  EXPECT_EQ(klab({"tasks", "--list"}).out.substr(0, 22), "palindrome\nmqar\nstack\n");
}

TEST_F(Usage, ModelPrintsItsCostsAsJson) {
  const Finished run = klab({"model", "--json", "--model.width", "256", "--model.head_dim", "128", "--batch", "3"});
  ASSERT_EQ(run.status, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  const auto one =
      nlohmann::json::parse(klab({"model", "--json", "--model.width", "256", "--model.head_dim", "128"}).out);
  EXPECT_EQ(json.at("state_bytes"), 3 * one.at("state_bytes").get<int64_t>());
  for (const char* key : {"parameters", "activated_parameters", "activated_parameters_without_embeddings",
                          "kv_cache_bytes_per_token", "prefill_flops", "decode_flops"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
}

TEST_F(Usage, TasksPrintTokensOverLabels) {
  const Finished run = klab({"tasks", "palindrome", "--task.length", "9", "--count", "2"});
  EXPECT_EQ(run.status, 0);
  EXPECT_NE(run.out.find("<sep>"), std::string::npos);
  EXPECT_NE(run.out.find("slice"), std::string::npos);
  EXPECT_EQ(run.out, klab({"tasks", "palindrome", "--task.length", "9", "--count", "2"}).out);
  EXPECT_NE(run.out, klab({"tasks", "palindrome", "--task.length", "9", "--count", "2", "--seed", "2"}).out);
}

TEST_F(Usage, CheckFindsTheOperatorsRight) {
  const Finished run = klab({"check", "--quick", "--quiet", "--operator", "norm", "--out", path("check.csv")});
  EXPECT_EQ(run.status, 0) << run.out;
  EXPECT_NE(run.out.find(" 0 failed"), std::string::npos);
  EXPECT_NE(read_file(path("check.csv")).find("verdict"), std::string::npos);
}

TEST_F(Usage, PlotDrawsBothFormats) {
  write_file(path("a.csv"), "step,split,acc_seq,seed\n1,test,0.1,1\n2,test,0.4,1\n1,test,0.2,2\n2,test,0.6,2\n");
  EXPECT_EQ(klab({"plot", path("a.csv"), "--out", path("a.png")}).status, 0);
  EXPECT_EQ(read_file(path("a.png")).substr(1, 3), "PNG");
  EXPECT_EQ(klab({"plot", path("a.csv"), "--out", path("a.svg")}).status, 0);
  EXPECT_NE(read_file(path("a.svg")).find("<svg"), std::string::npos);
  expect_refused({{"plot", path("a.csv"), "--out", path("a.bmp")}, 2, ".bmp"});
  expect_refused({{"plot", path("a.csv"), "--y", "acc_sec"}, 2, "acc_seq"});
}

}  // namespace
}  // namespace klab
