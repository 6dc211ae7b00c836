// SPDX-License-Identifier: Apache-2.0
// Reinforcement learning with verifiable rewards: sample answers, judge them, update the policy.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/io/checkpoint.h"
#include "core/rl/answer.h"
#include "core/rl/controller.h"
#include "core/rl/curriculum.h"
#include "core/rl/policy_loss.h"
#include "core/rl/rl_metrics.h"
#include "core/rl/rollout_model.h"
#include "core/train/optimizer.h"
#include "core/train/qk_clip.h"
#include "core/train/trainer.h"

namespace klab {

struct RlData {
  /// Training prompt number `index` of a variant of the task: a pure function.
  std::function<Prompt(size_t variant, int64_t index)> prompt;
  std::vector<double> variant_weights;
  std::vector<Prompt> validation;
  BatchSource ptx;                ///< supervised batches; may be empty if rl.ptx_weight is 0
  std::vector<Batch> supervised;  ///< held-out supervised data; may be empty
  RewardFunction reward;
  std::function<std::string(int64_t)> token_name;
  std::vector<int64_t> stop;  ///< end tokens
};

/// Config keys train.* that reinforcement learning has no use for. Throws UsageError for one that is set.
void require_rl_keys(const TrainConfig& config);

class RlTrainer {
 public:
  /// As Trainer. Answers are sampled by a model in rl.rollout_dtype.
  RlTrainer(Decoder model, const TrainConfig& config, const RlConfig& rl, RlData data, RunFolder folder,
            const std::vector<std::string>& provenance, bool resume, torch::Device device);

  /// As Trainer::run; the policy is also evaluated before the first iteration, at step 0. An interrupt while answers
  /// are sampled discards the iteration, which a resumed run repeats to the same bits.
  Outcome run(const std::function<Next(const RlStatus&, bool evaluated)>& watch);

  /// As Trainer::test.
  TestScores test(const std::vector<Prompt>& prompts);

  const RlStatus& status() const { return status_; }
  Decoder& model() { return model_; }
  RlEvaluation evaluate(const std::vector<Prompt>& prompts);

 private:
  Outcome iterate_to_the_end(const std::function<Next(const RlStatus&, bool)>& watch);
  void iterate();
  std::vector<Prompt> draw_prompts();
  void update(const std::vector<Answer>& answers);
  void accumulate_gradients(const std::vector<const Answer*>& answers, const std::vector<size_t>& minibatch,
                            const PolicyTokens& all);
  std::vector<std::vector<size_t>> deal_groups(const std::vector<Answer>& answers, const torch::Tensor& rewards);
  double add_ptx_gradients();
  void apply_gradients();
  void check_finite(double value, const char* what) const;
  void observe(const std::vector<Answer>& answers);
  void evaluate_now();
  void write_row(const char* split, int64_t step, const RlEvaluation& evaluation);
  Score score_references(const std::vector<Prompt>& prompts);
  std::map<std::string, torch::Tensor> tensors() const;
  Checkpoint checkpoint() const;
  void restore(const std::string& path);
  void save(const std::string& path) const;
  void log_answers(const char* split, const std::vector<Answer>& answers);
  bool succeeded() const {
    return status_.train.validation.targets > 0 && status_.train.validation.acc_seq() >= config_.stop_at;
  }

  Decoder model_;
  TrainConfig config_;
  RlConfig rl_;
  RlData data_;
  RunFolder folder_;
  torch::Device device_;
  std::shared_ptr<RankGroup> ranks_ = std::make_shared<RankGroup>();
  std::unique_ptr<GradientSums> sums_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<QkClip> clip_;  // null unless train.optimizer is muonclip
  std::unique_ptr<RolloutModel> rollout_;
  Controller controller_;
  Curriculum curriculum_;
  RlStatus status_;
  int64_t updates_ = 0;  // of all iterations: the position in the supervised data
  int64_t evaluated_step_ = -1;
  std::unique_ptr<RlMetrics> metrics_;  // null without a folder
};

}  // namespace klab
