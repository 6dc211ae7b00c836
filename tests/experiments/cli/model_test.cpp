// SPDX-License-Identifier: Apache-2.0
// klab model, and the config files of the project.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kConfigs = fs::path(KLAB_SOURCE) / "experiments/configs";

json model(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "model");
  arguments.push_back("--json");
  const Finished run = klab(arguments);
  EXPECT_EQ(run.status, 0) << run.err;
  return json::parse(run.out);
}

int64_t layers_of(const std::string& table, const std::string& mixer) {
  int64_t count = 0;
  for (size_t at = table.find(" " + mixer + " "); at != std::string::npos; at = table.find(" " + mixer + " ", at + 1)) {
    ++count;
  }
  return count;
}

TEST(ModelProgram, CountsThe48bModelWithoutItsMemory) {
  const json counts = model({(kConfigs / "models/kimi_linear_48b.yaml").string(), "--dtype", "bfloat16"});
  EXPECT_EQ(counts["parameters"], 49'122'681'728);
  EXPECT_EQ(counts["activated_parameters_without_embeddings"], 2'729'485'184);
  EXPECT_EQ(counts["kv_cache_bytes_per_token"], 8'064);
}

TEST(ModelProgram, StateGrowsAsStated) {
  const std::string file = (kConfigs / "models/kimi_linear_small.yaml").string();
  const json short_one = model({file, "--length", "128"}), long_one = model({file, "--length", "1280"});
  const int64_t per_token = short_one["kv_cache_bytes_per_token"];
  EXPECT_EQ(long_one["state_bytes"].get<int64_t>() - short_one["state_bytes"].get<int64_t>(), 1152 * per_token);
  const json two = model({file, "--length", "128", "--batch", "2"});
  EXPECT_EQ(two["state_bytes"].get<int64_t>(), 2 * short_one["state_bytes"].get<int64_t>());
  EXPECT_EQ(two["kv_cache_bytes_per_token"], per_token);
}

// Table 1 of the report: each file differs from the base in the setting of its name.
TEST(ModelProgram, AblationsAreWhatTheirNamesSay) {
  const auto table = [](const std::string& name) {
    const Finished run = klab({"model", (kConfigs / "ablations" / name).string()});
    EXPECT_EQ(run.status, 0) << name << ": " << run.err;
    return run.out;
  };
  const std::vector<std::tuple<std::string, int64_t, int64_t>> ratios = {
      {"base.yaml", 12, 4},         {"ratio_3_to_1.yaml", 12, 4},   {"ratio_0_to_1.yaml", 0, 16},
      {"ratio_1_to_1.yaml", 8, 8},  {"ratio_7_to_1.yaml", 14, 2},   {"ratio_15_to_1.yaml", 15, 1},
      {"nope.yaml", 12, 4},         {"no_output_gate.yaml", 12, 4}, {"swish_output_gate.yaml", 12, 4},
      {"no_short_conv.yaml", 12, 4}};
  for (const auto& [name, kda, mla] : ratios) {
    const std::string text = table(name);
    EXPECT_EQ(layers_of(text, "kda"), kda) << name;
    EXPECT_EQ(layers_of(text, "mla"), mla) << name;
  }
  EXPECT_EQ(layers_of(table("rope.yaml"), "mla_rope"), 4);
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(kConfigs / "ablations")) {
    ++files;
    const std::string text = read_file(entry.path().string());
    if (entry.path().filename() == "base.yaml") continue;
    EXPECT_NE(text.find("extends: base.yaml"), std::string::npos) << entry.path();
    EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 6) << entry.path() << " contains more than the differences";
  }
  EXPECT_EQ(files, ratios.size() + 1);
  const auto parameters = [](const char* name) {
    return model({(kConfigs / "ablations" / name).string()})["parameters"].get<int64_t>();
  };
  EXPECT_EQ(parameters("base.yaml") - parameters("no_output_gate.yaml"), 12 * (128 * 16 + 16 * 256));
  EXPECT_EQ(parameters("base.yaml") - parameters("no_short_conv.yaml"), 12 * 3 * 256 * 4);
  EXPECT_EQ(parameters("base.yaml"), parameters("swish_output_gate.yaml"));
}

TEST(ModelProgram, NamesEveryPromisedMixer) {
  const std::string list = "\n" + klab({"model", "--list"}).out;
  for (const char* name :
       {"kda", "gdn", "mamba2", "dplr", "mla", "mla_rope", "attention", "attention_rope", "fox", "linear_attention",
        "retnet", "gla", "hgrn2", "deltanet", "longhorn", "comba", "gdn2", "rwkv7"}) {
    EXPECT_NE(list.find("\n" + std::string(name) + "\n"), std::string::npos) << name;
  }
}

TEST(ModelProgram, RefusalsNameTheKeyAndWhatIsRight) {
  for (const auto& [flags, words] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--model.pattern", "kda,mla2"}, "did you mean 'mla'?"},
           {{"--model.last_layer", "mlaa"}, "did you mean 'mla'?"},
           {{"--model.pattern", "attention", "--model.attention.kv_heads", "3"},
            "model.attention.kv_heads = 3 must divide the 2 heads"},
           {{"--model.kda.value_heads", "3"}, "model.kda.value_heads = 3 must be a multiple of the 2 heads"},
           {{"--model.pattern", "attention_rope", "--model.head_dim", "7"}, "model.head_dim = 7 must be even"},
           {{"--model.moe.experts", "10", "--model.moe.groups", "3"}, "model.moe.groups = 3 must divide"},
           {{"--model.vocab", "3"}, "model.vocab = 3 must be at least"}}) {
    std::vector<std::string> arguments{"model"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const Finished run = klab(arguments);
    EXPECT_EQ(run.status, 2);
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err;
  }
}

// The largest physical memory of `klab arguments..`, in bytes.
double memory_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), KLAB_PROGRAM);
  std::vector<char*> words;
  for (std::string& word : arguments) words.push_back(word.data());
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stdout) != nullptr) ::execv(KLAB_PROGRAM, words.data());
    ::_exit(127);
  }
  int status = 0;
  rusage used{};
  EXPECT_EQ(::wait4(child, &status, 0, &used), child);
  EXPECT_EQ(status, 0);
  return 1024.0 * static_cast<double>(used.ru_maxrss);
}

class MemoryProgram : public ProgramTest, public testing::WithParamInterface<std::vector<std::string>> {};

// The whole process, as the system counts it.
TEST_P(MemoryProgram, TrainingTakesThePredictedMemory) {
  std::vector<std::string> config = {"--task.name",           "language", "--task.length",    "512",
                                     "--model.width",         "256",      "--model.layers",   "4",
                                     "--model.heads",         "4",        "--model.head_dim", "64",
                                     "--model.pattern",       "kda,mla",  "--train.batch",    "8",
                                     "--train.eval_examples", "8",        "--test.examples",  "8"};
  config.insert(config.end(), GetParam().begin(), GetParam().end());
  std::vector<std::string> predict = config;
  predict.insert(predict.begin(), {"--train"});
  const double predicted = model(predict)["peak"];
  config.insert(config.begin(), {"train", "--quiet", "--threads", "2", "--out", path("run"), "--train.steps", "3"});
  const double actual = memory_of(config);
  EXPECT_NEAR(predicted / actual, 1, 0.1) << predicted << " and " << actual;
}

INSTANTIATE_TEST_SUITE_P(
    Configs, MemoryProgram,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"--train.activation_checkpointing", "true"},
                    std::vector<std::string>{"--train.dtype", "bfloat16", "--train.optimizer", "muonclip"}));

TEST(ModelProgram, TrainingMemoryHasNoLengthOfItsOwn) {
  const Finished run = klab({"model", "--train", "--length", "8"});
  EXPECT_EQ(run.status, 2);
  EXPECT_NE(run.err.find("--train and --ranks use the keys task.length, train.batch"), std::string::npos) << run.err;
}

// More ranks send more and compute less each.
using RanksOfModel = ProgramTest;

TEST_F(RanksOfModel, PredictsWhatRanksNeedAndSend) {
  const std::vector<std::string> model = {"model", "--task.name",   "palindrome", "--task.length",
                                          "64",    "--train.batch", "8"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = model;
    words.insert(words.end(), more.begin(), more.end());
    return klab(words);
  };
  const Finished run = with({"--ranks", "1,2,4,8", "--zero", "--out", path("ranks.csv")});
  ASSERT_EQ(run.status, 0) << run.err;
  const CsvTable table = read_csv(path("ranks.csv"));
  ASSERT_EQ(table.rows.size(), 4u);
  const auto number = [&](size_t row, const char* column) { return std::stod(table.rows[row][table.column(column)]); };
  EXPECT_EQ(number(0, "sent"), 0);
  EXPECT_EQ(number(1, "optimizer"), number(0, "optimizer") / 2);
  for (size_t row = 1; row < 4; ++row) {
    EXPECT_GT(number(row, "sent"), number(row - 1, "sent"));
    EXPECT_LT(number(row, "activations"), number(row - 1, "activations"));
    EXPECT_NEAR(number(row, "flops"), number(row - 1, "flops") / 2, 1);
  }
  const Finished printed = with({"--dp", "2", "--cp", "2", "--json"});
  ASSERT_EQ(printed.status, 0) << printed.err;
  EXPECT_EQ(nlohmann::json::parse(printed.out).at(0).at("ranks"), 4);
  const auto refused = [&](const std::vector<std::string>& more, const std::string& words) {
    const Finished wrong = with(more);
    EXPECT_EQ(wrong.status, 2) << words;
    EXPECT_NE(wrong.err.find(words), std::string::npos) << wrong.err;
  };
  refused({"--cp", "2"}, "--cp, --ep, --zero and --out need --ranks or --dp");
  refused({"--ranks", "4", "--cp", "3"}, "--cp = 3 must divide the 4 ranks");
  refused({"--ranks", "4", "--dp", "4", "--cp", "2"}, "--ranks = 4 must be 8, --dp 4 times --cp 2");
  refused({"--ranks", "16"}, "train.batch = 8 must be at least 16");
  refused({"--ranks", "2", "--length", "8"}, "--train and --ranks use the keys task.length");
}

}  // namespace
}  // namespace klab
