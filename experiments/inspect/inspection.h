// SPDX-License-Identifier: Apache-2.0
// The analysis of a trained run by `klab inspect`, without the output.
#pragma once

#include <torch/types.h>

#include <optional>
#include <string>
#include <vector>

#include "core/inspect/decay.h"
#include "core/rl/answer_log.h"
#include "experiments/run/evaluations.h"
#include "experiments/run/run_config.h"

namespace klab {

struct InspectOptions {
  std::string run;
  std::string checkpoint = "last";  ///< or "best"
  std::vector<Assignment> task;     ///< overrides of the run's `task.*` keys
  std::string split = "test";       ///< or "validation", "train"
  int64_t examples = 128;           ///< number of examples for half-lives and accuracy
  int64_t index = 0;                ///< index of the example that is shown
  std::vector<int64_t> tokens{};    ///< shown instead of an example, unless empty
  int64_t most_tokens = 256;        ///< matrices show at most this many of its first tokens
  std::optional<int64_t> seed{};    ///< seed of the examples; default: that of the run
  torch::Device device = torch::kCPU;
};

/// One mixer: of a whole layer, or of a group of its heads (HV heads).
struct MixerView {
  int64_t layer;
  int64_t part;  ///< index of the head group if the layer has several kinds of mixers, else -1
  std::string mixer;
  bool linear = false;

  /// Softmax weights, or the implicit attention of a linear mixer, of the shown example's first W tokens: [HV, W, W]
  /// float32 or float64 on the CPU.
  torch::Tensor weights{};
  /// Largest |weights x values - output of the kernel| over the largest output: only rounding errors.
  double unexplained = 0;

  // Linear mixers only.
  Decays decays{};
  torch::Tensor ranks{};  ///< effective rank of the state, [E, HV, P]: examples, heads, positions

  std::string title() const;  ///< "layer 0: kda", "layer 0, heads of kind 1: mla"
  std::string stem() const;   ///< the same for file names: "layer0_kda"
};

/// A supervised position of the shown example.
struct Prediction {
  int64_t position, label, predicted;
  double probability;  ///< the model's probability of the label
};

struct DrawnExample {
  std::vector<int64_t> inputs, labels;
  std::vector<std::string> names;         ///< the task's names of the inputs
  std::vector<std::string> target_names;  ///< "" where there is no target
  std::vector<Prediction> answers;
  std::vector<std::string> predicted_names;  ///< of the answers
};

struct Inspection {
  InspectOptions options;
  RunConfig config;  ///< of the run
  TaskConfig task;   ///< the inspected task
  int64_t step = 0, parameters = 0;
  DrawnExample drawn;
  int64_t shown_tokens = 0;          ///< W
  std::vector<int64_t> rank_tokens;  ///< P positions, as numbers of tokens seen
  Evaluation accuracy;
  std::vector<MixerView> mixers;
  std::vector<std::string> not_shown;  ///< titles of mixers whose state is not one matrix of the recurrence per head
  std::vector<LoggedAnswer> answers;   ///< of a run of reinforcement learning: those that it has logged

  bool any_linear() const;
};

/// Loads and analyses the run's model. Throws UsageError for a folder that is not a run or has no checkpoint yet, and
/// for a task with a larger vocabulary than the model; Error for a damaged checkpoint or one of another model.
Inspection inspect(const InspectOptions& options);

}  // namespace klab
