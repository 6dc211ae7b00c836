// SPDX-License-Identifier: Apache-2.0
// Checkpoints in the public layout, from training to an answer.
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/io/safetensors.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class PublicModel : public ProgramTest {
 protected:
  // A tiny Kimi-shaped run, exported.
  std::string exported() {
    const Finished train = klab(
        tiny_run(path("run"), {"--model.pattern", "kda,mla", "--model.moe.experts", "4",
                               "--model.moe.experts_per_token", "2", "--train.steps", "2", "--model.layers", "2"}));
    EXPECT_EQ(train.status, 0) << train.err;
    const Finished out = klab({"export", path("run"), "--out", path("model")});
    EXPECT_EQ(out.status, 0) << out.err;
    return path("model");
  }
};

TEST_F(PublicModel, IsTrainedExportedAndAnswers) {
  const std::string model = exported();
  const Finished logits = klab({"logits", "--model", model, "--tokens", "1,2,3;4,5,6", "--out", path("logits")});
  ASSERT_EQ(logits.status, 0) << logits.err;
  const SafetensorsFile file(path("logits"));
  const at::Tensor all = file.tensor("logits");
  EXPECT_EQ(all.size(0), 2);
  EXPECT_EQ(all.size(1), 3);

  const Finished answer =
      klab({"generate", "--model", model, "--tokens", "1,2,3;4,5,6", "--max-new-tokens", "4", "--json"});
  ASSERT_EQ(answer.status, 0) << answer.err;
  const json said = json::parse(answer.out);
  for (int64_t row = 0; row < 2; ++row) {
    EXPECT_EQ(said["tokens"][static_cast<size_t>(row)].size(), 4u);
    EXPECT_EQ(said["tokens"][static_cast<size_t>(row)][0], all[row][2].argmax().item<int64_t>());
  }
  EXPECT_TRUE(said["text"].is_null());
  write_file(path("tokens"), "1,2,3\n4,5,6\n");
  const Finished same =
      klab({"generate", "--model", model, "--tokens-file", path("tokens"), "--max-new-tokens", "4", "--json"});
  ASSERT_EQ(same.status, 0) << same.err;
  EXPECT_EQ(json::parse(same.out)["tokens"], said["tokens"]);
  EXPECT_GT(said["decode_tokens_per_second"], 0.0);

  const Finished counted = klab({"model", model, "--json"}), trained = klab({"model", path("run"), "--json"});
  EXPECT_EQ(json::parse(counted.out)["parameters"], json::parse(trained.out)["parameters"]);
  const Finished again = klab(tiny_run(path("again"), {"--model.config", model, "--train.steps", "1"}));
  EXPECT_EQ(again.status, 0) << again.err;
}

// Answers from a run are those of its exported checkpoint.
TEST_F(PublicModel, ARunAnswersLikeItsExport) {
  const std::string model = exported();
  const auto answer = [](const std::string& folder, const std::string& dtype) {
    const Finished run = klab({"generate", "--model", folder, "--tokens", "1,2,3;4,5,6", "--max-new-tokens", "6",
                               "--dtype", dtype, "--json"});
    EXPECT_EQ(run.status, 0) << run.err;
    return run.status == 0 ? json::parse(run.out)["tokens"] : json();
  };
  EXPECT_EQ(answer(path("run"), "auto"), answer(model, "auto"));
  EXPECT_EQ(answer(path("run"), "bfloat16").size(), 2u);
}

// A text of one document, learnt by heart.
TEST_F(PublicModel, ARunOnTextContinuesItsText) {
  const std::string text = "one two three four five six seven eight nine ten";
  fs::create_directories(path("a folder"));
  write_file(path("a folder/the text"), text);
  const Finished train = klab({"train",
                               "--quiet",
                               "--threads",
                               "1",
                               "--out",
                               path("run"),
                               "--task.name",
                               "text",
                               "--task.text.files",
                               path("a folder"),
                               "--task.text.split",
                               "all",
                               "--task.length",
                               "49",
                               "--model.width",
                               "32",
                               "--model.head_dim",
                               "16",
                               "--train.steps",
                               "150",
                               "--train.batch",
                               "2",
                               "--train.lr",
                               "1e-2",
                               "--train.eval_every",
                               "50",
                               "--train.eval_examples",
                               "1",
                               "--train.stop_at",
                               "2",
                               "--test.examples",
                               "1"});
  ASSERT_EQ(train.status, 0) << train.err;
  const Finished answer =
      klab({"generate", "--quiet", "--model", path("run"), "--prompt", text.substr(0, 13), "--json"});
  ASSERT_EQ(answer.status, 0) << answer.err;
  const json said = json::parse(answer.out);
  EXPECT_EQ(said["text"], text.substr(13));
  EXPECT_EQ(said["tokens"][0].back(), 256) << "the end of the document ends the answer";
  EXPECT_EQ(said["prompt_tokens"], 14) << "a document begins with <end>";
}

TEST_F(PublicModel, WrongUseIsRefused) {
  const std::string model = exported();
  const auto refused = [](const std::vector<std::string>& arguments, int status, const std::string& words) {
    const Finished run = klab(arguments);
    EXPECT_EQ(run.status, status) << run.err;
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err;
  };
  refused({"generate", "--model", model, "--prompt", "hello"}, 2,
          "no tiktoken.model or tokenizer.json, and no run on the tasks text or jsonl");
  refused({"generate", "--model", path("run"), "--prompt", "hello"}, 2, "no run on the tasks text or jsonl");
  refused({"generate", "--model", path("run"), "--tokens", "1", "--dtype", "int8"}, 2, "needs a public checkpoint");
  refused({"generate", "--model", path("run"), "--tokens", "1", "--mmap"}, 2, "needs a public checkpoint");
  refused({"generate", "--model", model}, 2, "either --prompt or --tokens");
  refused({"generate", "--model", model, "--tokens", "1", "--chat"}, 2, "--chat needs --prompt");
  refused({"generate", "--model", model, "--tokens-file", path("none")}, 2, path("none"));
  refused({"generate", "--model", model, "--tokens", "1,x"}, 2, "'x' is not a token id");
  refused({"generate", "--model", model, "--tokens", "100000"}, 2, "not in the vocabulary");
  refused({"generate", "--model", model, "--tokens", "1", "--top-p", "0"}, 2, "--top-p");
  refused({"generate", "--model", path("nowhere"), "--tokens", "1"}, 2, "nowhere");
  refused({"logits", "--model", model, "--tokens", "1,2;3", "--out", path("o")}, 2, "equal lengths");
  refused({"logits", "--model", model, "--tokens", "1,2"}, 2, "--out");
  refused({"generate", "--model", model, "--tokens", "1", "--mmap", "--dtype", "int8"}, 2, "--mmap");
  refused({"generate", "--model", model, "--tokens", "1", "--weights", "map"}, 2, "--weights is now --mmap");
  refused({"generate", "--model", model, "--tokens", "1", "--top_k", "5"}, 2,
          "unknown option '--top_k'; did you mean '--top-k'?");
  refused({"chat", "--model", model}, 2, "tiktoken.model");
  refused({"export", path("run"), "--out", model}, 2, "already contains a model");
  refused({"train", "--model.config", path("nowhere.json")}, 2, "nowhere.json");
}

TEST_F(PublicModel, BytesAreCountedInItsOwnDtype) {
  exported();
  ASSERT_EQ(klab({"export", path("run"), "--out", path("half"), "--dtype", "bfloat16", "--quiet"}).status, 0);
  const auto counted = [](const std::vector<std::string>& words) {
    std::vector<std::string> arguments{"model", "--json"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    return json::parse(klab(arguments).out);
  };
  const json whole = counted({path("model")}), half = counted({path("half")});
  EXPECT_EQ(whole["dtype"], "float32");
  EXPECT_EQ(half["dtype"], "bfloat16");
  EXPECT_EQ(2 * half["kv_cache_bytes_per_token"].get<int64_t>(), whole["kv_cache_bytes_per_token"].get<int64_t>());
  EXPECT_EQ(counted({path("half"), "--dtype", "float32"}), whole);
  EXPECT_EQ(counted({"kimi-linear-48b"})["dtype"], "bfloat16");
  EXPECT_EQ(counted({"--model.config", "kimi-linear-48b"})["dtype"], "bfloat16");
}

TEST_F(PublicModel, NamesTheBuiltInOne) {
  const Finished run = klab({"model", "kimi-linear-48b", "--json", "--dtype", "bfloat16"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(json::parse(run.out)["parameters"], 49'122'681'728);
}

}  // namespace
}  // namespace klab
