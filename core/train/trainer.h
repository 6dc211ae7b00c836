// SPDX-License-Identifier: Apache-2.0
// The training loop: steps, evaluation, metrics, checkpoints, bitwise reproducible resume.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "core/model/decoder.h"
#include "core/parallel/parallelism.h"
#include "core/train/gradient_sums.h"
#include "core/train/optimizer.h"
#include "core/train/qk_clip.h"
#include "core/train/score.h"
#include "core/train/status.h"
#include "core/train/train_config.h"
#include "core/train/weight_average.h"
#include "core/train/working_copy.h"

namespace klab {

/// The loss or a gradient became non-finite. Deterministic: the same run diverges every time.
struct Diverged : Error {
  using Error::Error;
};

/// `stalled`: train.patience evaluations without improvement.
enum class Outcome { steps_done, success, stalled, stopped };

/// The callback's decision after a step.
enum class Next { step, stop };

/// While it lives, a model has the weights that are evaluated: the averages if there are such, on every rank all.
class EvaluatedWeights {
 public:
  EvaluatedWeights(WeightAverage* average, GradientSums& sums) : averaged_(average), whole_(sums) {}

 private:
  AveragedWeights averaged_;
  WholeWeights whole_;
};

class Trainer {
 public:
  /// Evaluations are on `validation`; early stopping and the best checkpoint are chosen by them. `provenance` is
  /// written to the header of metrics.csv. Starts from newly initialised parameters or those of `train.from`, or with
  /// `resume` from the folder's last checkpoint (Error if one of these is missing, damaged or of another model).
  /// With several ranks each computes its part of every batch, and rank 0 writes the files; all members are operations
  /// of all ranks. With experts spread over ranks the model must be made for `parallelism.experts`. Throws UsageError
  /// for a config that does not fit the model or the ranks.
  Trainer(Decoder model, const TrainConfig& config, BatchSource train, const std::vector<Batch>& validation,
          RunFolder folder, const std::vector<std::string>& provenance, bool resume, torch::Device device,
          Parallelism parallelism = {});

  /// Trains to the end, or until `watch` returns `stop`; then writes a checkpoint from which the run can be resumed.
  /// `watch` is called after every step, with `evaluated` true if the step ended with an evaluation; what one rank's
  /// returns holds for all. Throws Diverged (the last checkpoint is unchanged), and Interrupted, after writing a
  /// checkpoint, on a signal.
  Outcome run(const std::function<Next(const TrainStatus&, bool evaluated)>& watch);

  /// Evaluates the last and the best parameters and writes a row of split `test` for each, at the step that they are
  /// of. For after run(): nothing may be chosen by these results. The model keeps its last parameters.
  TestScores test(const std::vector<Batch>& batches);

  const TrainStatus& status() const { return status_; }
  Decoder& model() { return model_; }
  const torch::Device& device() const { return device_; }
  /// The score on validation data, like every evaluation with the averaged weights if there are such (train.ema).
  Score evaluate();
  /// For evaluations of model() elsewhere.
  EvaluatedWeights evaluated_weights() { return {average_.get(), *sums_}; }

 private:
  void start(bool resume);
  void branch();
  void continue_state(const Checkpoint& from, const std::string& path);
  // The model that computes training steps.
  Decoder& computing() { return copy_ ? copy_->model() : model_; }
  void share_weights();
  void train_step(const Batch& batch);
  Score accumulate_gradients(const Batch& batch);
  Score part_gradients(const Batch& part, double targets);
  Batch on_this_rank(const Batch& batch) const;
  Score score(const std::vector<Batch>& batches);
  void write_row(int64_t step, const char* split, const Score& score, double grad_norm);
  void write_rows();
  void check_finite(double value, const char* what, int64_t step) const;
  bool writes() const { return ranks_->first() && !folder_.path.empty(); }
  int64_t own_parts() const;
  std::pair<int, bool> agreed(int signal, bool stop);
  std::map<std::string, torch::Tensor> tensors() const;
  Checkpoint checkpoint();
  void restore(const std::string& path);
  void save(const std::string& path, const Checkpoint& checkpoint);
  void save_last();
  void save_best();
  bool stalled() const {
    return config_.patience > 0 && status_.best.targets > 0 &&
           status_.step - status_.best_step >= config_.patience * config_.eval_every;
  }
  bool succeeded() const { return status_.validation.targets > 0 && status_.validation.acc_seq() >= config_.stop_at; }

  Decoder model_;
  TrainConfig config_;
  BatchSource train_;
  std::vector<Batch> validation_;
  RunFolder folder_;
  torch::Device device_;
  at::Generator generator_;
  Parallelism parallelism_;
  std::shared_ptr<RankGroup> ranks_;   // all of them
  std::unique_ptr<WorkingCopy> copy_;  // null if train.dtype is float32
  std::unique_ptr<GradientSums> sums_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<QkClip> clip_;            // null unless train.optimizer is muonclip
  std::unique_ptr<WeightAverage> average_;  // null without train.ema
  TrainStatus status_;
  std::unique_ptr<CsvWriter> metrics_;
};

}  // namespace klab
