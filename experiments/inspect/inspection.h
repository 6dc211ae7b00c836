// A trained run seen from inside: what klab inspect finds out, before anything is drawn.
#pragma once

#include <torch/types.h>

#include <optional>
#include <string>
#include <vector>

#include "core/inspect/decay.h"
#include "experiments/run/evaluations.h"
#include "experiments/run/run_config.h"

namespace klab {

struct InspectOptions {
  std::string run;
  std::string checkpoint = "last";  ///< or "best"
  std::vector<Assignment> task;     ///< keys `task.*` in which the input differs from what was trained
  std::string split = "test";       ///< or "train"
  int64_t examples = 128;           ///< that half-lives and accuracy are taken over
  int64_t index = 0;                ///< of the example that is drawn
  std::vector<int64_t> tokens{};    ///< drawn instead of an example, where there are some
  int64_t most_tokens = 256;        ///< matrices show so many of its first tokens
  std::optional<int64_t> seed{};    ///< of the examples; that of the run when absent
  torch::Device device = torch::kCPU;
};

/// One mixer: of a whole layer, or of some heads of it (HV of them).
struct MixerView {
  int64_t layer;
  int64_t part;  ///< which kind of heads, where a layer mixes several; else -1
  std::string mixer;
  bool linear = false;

  /// Of the drawn example's first W tokens, [HV, W, W] float32 or float64 on the CPU: softmax weights, or the implicit
  /// attention of a linear mixer.
  torch::Tensor weights{};
  /// Largest |weights x values - what the kernel gave|, as a share of the largest output: rounding alone.
  double unexplained = 0;

  // Of linear mixers alone.
  Decays decays{};
  torch::Tensor ranks{};  ///< effective rank of the state, [E, HV, P]: examples, heads, numbers of tokens

  std::string title() const;  ///< "layer 0: kda", "layer 0, heads of kind 1: mla"
  std::string stem() const;   ///< the same for names of files: "layer0_kda"
};

/// A supervised position of the drawn example.
struct Answer {
  int64_t position, label, predicted;
  double probability;  ///< that the model gives to the label
};

struct DrawnExample {
  std::vector<int64_t> inputs, labels;
  std::vector<std::string> names;         ///< of the inputs, in the task's words
  std::vector<std::string> target_names;  ///< "" where there is no target
  std::vector<Answer> answers;
  std::vector<std::string> predicted_names;  ///< of the answers
};

struct Inspection {
  InspectOptions options;
  RunConfig config;  ///< of the run
  TaskConfig task;   ///< what was looked at
  int64_t step = 0, parameters = 0;
  DrawnExample drawn;
  int64_t shown_tokens = 0;          ///< W
  std::vector<int64_t> rank_tokens;  ///< P numbers of tokens
  Evaluation accuracy;
  std::vector<MixerView> mixers;

  bool any_linear() const;
};

/// Loads the run's model and looks into it. Throws UsageError for a folder that is no run or has no checkpoint yet, and
/// for a task that the model has no tokens for; Error for a checkpoint that is damaged or of another model.
Inspection inspect(const InspectOptions& options);

}  // namespace klab
