// SPDX-License-Identifier: Apache-2.0
// train.from: runs that begin with the checkpoint of another run.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/file.h"
#include "core/base/support.h"
#include "core/train/support.h"

namespace klab {
namespace {

using torch::Tensor;

TinyRun stable_run() {
  TinyRun run;
  run.config.optimizer = "muon";
  run.config.schedule = "wsd";
  run.config.decay_ratio = 0.4;  // from step 13
  run.config.warmup_ratio = 0.1;
  return run;
}

// A run that was stopped in the stable phase, after step 8.
struct Stopped {
  explicit Stopped(TinyRun tiny = stable_run()) : run(std::move(tiny)) {
    run.trainer(folder.path()).run(stop_after(8));
    branch = run;
    branch.config.from = files().last();
  }
  RunFolder files() const { return {folder.path()}; }
  std::string refusal() const {
    return message_of<Error>([&] { branch.trainer(""); });
  }

  TinyRun run, branch;
  Folder folder;
};

TEST(Branch, BeginsWithTheParametersOnly) {
  Stopped from;
  Trainer source = from.run.trainer(from.folder.path(), /*resume=*/true);
  for (const std::string& path : {from.files().last(), from.folder.path()}) {
    from.branch.config.from = path;
    from.branch.config.optimizer = "adamw";  // another one, because its state is not used
    Trainer trainer = from.branch.trainer("");
    EXPECT_EQ(trainer.status().step, 0);
    expect_same_bits(parameters_of(trainer), parameters_of(source));
    std::vector<double> rates;
    trainer.run([&](const TrainStatus& status, bool) {
      rates.push_back(status.lr);
      return Next::step;
    });
    ASSERT_EQ(rates.size(), 20u);
    EXPECT_EQ(rates.front(), from.branch.config.lr_at(1));
  }
}

TEST(Branch, WithTheStateItIsTheSameRunToTheBit) {
  Stopped from;
  from.branch.config.from_state = true;
  const Folder whole_folder, folder;
  Trainer whole = from.run.trainer(whole_folder.path()), branch = from.branch.trainer(folder.path());
  EXPECT_EQ(branch.status().step, 8);
  whole.run(go_on);
  branch.run(go_on);
  expect_same_bits(load_checkpoint(RunFolder{whole_folder.path()}.last()).tensors,
                   load_checkpoint(RunFolder{folder.path()}.last()).tensors);
  EXPECT_EQ(step_of(from.files().last()), 8) << "the source is not changed";
}

TEST(Branch, SeveralDecaysBeginAtOneCheckpoint) {
  Stopped from;
  from.branch.config.from_state = true;
  const double peak = from.run.config.lr;
  for (const auto& [steps, ratio, decay] : {std::tuple{10, 0.2, "linear"}, {16, 0.5, "sqrt"}, {12, 0.25, "cosine"}}) {
    from.branch.config.steps = steps;
    from.branch.config.decay_ratio = ratio;
    from.branch.config.decay = decay;
    std::map<int64_t, double> rates;
    from.branch.trainer("").run([&](const TrainStatus& status, bool) {
      rates[status.step] = status.lr;
      return Next::step;
    });
    EXPECT_EQ(rates.begin()->first, 9);
    EXPECT_EQ(rates.rbegin()->first, steps);
    EXPECT_EQ(rates.rbegin()->second, 0);
    EXPECT_EQ(rates.at(9), steps == 12 ? peak : from.branch.config.lr_at(9));
    EXPECT_LT(rates.at(steps - 1), peak);
  }
}

TEST(Branch, IsResumedFromItsOwnCheckpoint) {
  Stopped from;
  from.branch.config.from_state = true;
  const Folder whole_folder, folder;
  from.branch.trainer(whole_folder.path()).run(go_on);
  from.branch.trainer(folder.path()).run(stop_after(11));
  std::filesystem::remove(from.files().last());  // is not needed any more
  Trainer resumed = from.branch.trainer(folder.path(), /*resume=*/true);
  EXPECT_EQ(resumed.status().step, 11);
  resumed.run(go_on);
  expect_same_bits(load_checkpoint(RunFolder{whole_folder.path()}.last()).tensors,
                   load_checkpoint(RunFolder{folder.path()}.last()).tensors);
  EXPECT_EQ(timeless_rows(RunFolder{whole_folder.path()}), timeless_rows(RunFolder{folder.path()}));
}

TEST(Branch, AveragesBeginAtTheCheckpointOrContinue) {
  Stopped plain;
  plain.branch.config.from_state = true;
  plain.branch.config.ema = 0.9;
  Trainer begun = plain.branch.trainer("");
  const auto weights = parameters_of(begun);
  {
    const EvaluatedWeights guard = begun.evaluated_weights();
    expect_same_bits(parameters_of(begun), weights);
  }

  TinyRun averaged = stable_run();
  averaged.config.ema = 0.9;
  Stopped from(averaged);
  from.branch.config.from_state = true;
  const Checkpoint stored = load_checkpoint(from.files().last());
  Trainer continued = from.branch.trainer("");
  EXPECT_TRUE(torch::equal(parameters_of(continued).at("embedding"), stored.tensor("model.embedding")));
  const EvaluatedWeights guard = continued.evaluated_weights();
  EXPECT_TRUE(torch::equal(parameters_of(continued).at("embedding"), stored.tensor("ema.embedding")));
}

TEST(Branch, RefusesFilesThatAreMissingOrDamaged) {
  Stopped from;
  from.branch.config.from = from.folder / "none.safetensors";
  EXPECT_CONTAINS(from.refusal(), "train.from = " + from.branch.config.from + ": there is no file");
  const Folder empty;
  from.branch.config.from = empty.path();
  EXPECT_CONTAINS(from.refusal(), "there is no file '" + empty.path() + "/checkpoint/last.safetensors'");
  from.branch.config.from = from.files().last();
  std::string bytes = read_file(from.files().last());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file(from.files().last(), bytes);
  EXPECT_CONTAINS(from.refusal(), from.files().last() + ": the checksum does not match");
  write_file(from.files().last(), bytes.substr(0, bytes.size() / 2));
  EXPECT_CONTAINS(from.refusal(), from.files().last());
}

TEST(Branch, RefusesAnotherModelOrOptimizer) {
  Stopped from;
  const std::string path = from.files().last();
  EXPECT_CONTAINS(failure_of([&] {
                    Trainer(tiny_model(/*width=*/16), from.branch.config, from.branch.train, {}, {}, {}, false,
                            torch::kCPU);
                  }),
                  path + ": the checkpoint's tensor 'model.embedding' has another shape");
  Checkpoint larger = load_checkpoint(path);
  larger.tensors["model.layer1.norm"] = torch::ones({8});
  save_checkpoint(path, larger);
  EXPECT_CONTAINS(from.refusal(), path + ": the checkpoint's tensor 'model.layer1.norm' does not belong to the model");
  larger.tensors.erase("model.layer1.norm");
  larger.tensors.erase("model.embedding");
  save_checkpoint(path, larger);
  EXPECT_CONTAINS(from.refusal(), path + ": the checkpoint has no tensor 'model.embedding'");

  Stopped other;
  other.branch.config.optimizer = "adamw";
  other.branch.config.from_state = true;
  EXPECT_CONTAINS(other.refusal(), other.files().last() + ": the checkpoint has no tensor 'adamw.first_moment.layer0.");
}

TEST(Branch, RefusesAStateThatDoesNotFitItsSchedule) {
  Stopped from;
  from.branch.config.from_state = true;
  from.branch.config.steps = 8;
  EXPECT_CONTAINS(from.refusal(), "train.steps = 8 must be more than step 8 of");
  from.branch.config.steps = 10;
  from.branch.config.decay_ratio = 0.3;
  EXPECT_CONTAINS(from.refusal(), "the decay would begin before step 8");
  from.branch.config.decay_ratio = 0.2;
  EXPECT_NO_THROW(from.branch.trainer(""));
  from.branch.config.from = "";
  EXPECT_CONTAINS(from.refusal(), "train.from_state = true must come with train.from");
}

TEST(Branch, TheBestOfAnAveragedRunHasNoState) {
  TinyRun averaged = stable_run();
  averaged.config.ema = 0.9;
  Stopped from(averaged);
  from.branch.config.from = from.files().best();
  Trainer trainer = from.branch.trainer("");
  EXPECT_TRUE(torch::equal(parameters_of(trainer).at("embedding"),
                           load_checkpoint(from.files().best()).tensor("model.embedding")));
  from.branch.config.from_state = true;
  EXPECT_CONTAINS(from.refusal(), "this best checkpoint has their average");
}

}  // namespace
}  // namespace klab
