// SPDX-License-Identifier: Apache-2.0
// A task: a generator of (inputs, labels) sequences that test memory, and its vocabulary.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/base/registry.h"

namespace klab {

/// The label of a position without a target (the loss skips it).
constexpr int64_t kNoTarget = -100;

/// One sequence, or a row of packed sequences. The first three vectors have `length` entries, the others too or none.
struct Example {
  std::vector<int64_t> inputs;      ///< token ids in [0, vocabulary)
  std::vector<int64_t> labels;      ///< token id to predict at this position, or kNoTarget
  std::vector<int64_t> difficulty;  ///< difficulty of the target, by the task's own measure; -1 without a target
  std::vector<int64_t> starts;      ///< 1 at the first position of every sequence of a packed row, else 0
  std::vector<int64_t> bytes;       ///< bytes of text that the target stands for
  std::vector<double> surprisal;    ///< nats: -log of the target's probability under the source, given what precedes it

  /// The number of positions so far, which is also the index of the next one.
  int64_t size() const { return static_cast<int64_t>(inputs.size()); }
  /// Adds one position without a target.
  void append(int64_t input) { append(input, kNoTarget, -1); }
  /// Adds one position with the target `label`.
  void append(int64_t input, int64_t label, int64_t how_hard);
};

/// The slice that results are averaged over: the difficulty itself if there are few (hardest < 16), else the largest
/// power of two that does not exceed it.
int64_t slice_of(int64_t difficulty, int64_t hardest);

/// The size parameters of every task.
struct TaskShape {
  int64_t length;  ///< tokens of a sequence
  int64_t vocab;   ///< symbols; separators and commands are added to them
};

/// Training data; data for every choice (early stopping, best checkpoint, learning rate); data for the final result.
enum class Split { train, test, validation };
std::string to_string(Split split);
/// Throws UsageError for an unknown name.
Split split_named(const std::string& name);

/// Which of the splits a hash belongs to: one in 16 is for the test, one in 16 for validation.
Split split_of_hash(uint64_t hash);

class Task {
 public:
  virtual ~Task() = default;

  /// The number of token ids: symbols, separators and commands.
  virtual int64_t vocabulary() const = 0;
  /// Example number `index` of a split; the same on every machine. No two splits share data, for any seeds.
  virtual Example example(int64_t seed, Split split, int64_t index) const = 0;
  /// The number of different examples of a split, if it is finite; of training data they come again in another order.
  virtual std::optional<int64_t> examples(Split) const { return std::nullopt; }
  /// Identifies data that the config does not determine; "" if it does.
  virtual std::string data_hash() const { return ""; }
  /// The printed name of a token id, for example "<sep>" or "k7". Throws Error for other ids.
  virtual std::string token_name(int64_t id) const = 0;
  /// The token that ends an answer or a document, if the task has one.
  virtual std::optional<int64_t> end_token() const { return std::nullopt; }
  /// The unit of `difficulty`, for example "gap" (tokens since the item was stored).
  virtual std::string difficulty_name() const = 0;
};

/// A task whose examples are drawn at random. A hash of split_key() assigns every sequence to one split.
class GeneratedTask : public Task {
 public:
  /// Draws one example; all its randomness comes from `random`.
  virtual Example generate(Random& random) const = 0;
  /// The tokens that decide an example's split: its inputs, unless a task leaves some out, such as padding.
  virtual std::vector<int64_t> split_key(const Example& example) const { return example.inputs; }
  /// Throws Error when the task has so few sequences that none of this split is found.
  Example example(int64_t seed, Split split, int64_t index) const final;
};

/// A registry entry.
struct TaskEntry {
  std::string name;
  std::string summary;
  /// The task's own options (config keys `task.<name>.*`), with their defaults.
  AnyConfig options;
  /// Builds the task; `options` has the type of the entry's. Throws UsageError for a shape that the task does not
  /// support.
  std::function<std::unique_ptr<Task>(const TaskShape&, const AnyConfig& options)> make;
};

/// The entry of a task class that is constructed from (TaskShape, Options), or from TaskShape alone.
template <class Class, class Options>
TaskEntry task_entry(std::string name, std::string summary) {
  return {std::move(name), std::move(summary), AnyConfig(Options()),
          [](const TaskShape& shape, const AnyConfig& options) -> std::unique_ptr<Task> {
            if constexpr (std::is_constructible_v<Class, const TaskShape&, const Options&>) {
              return std::make_unique<Class>(shape, options.as<Options>());
            } else {
              return std::make_unique<Class>(shape);
            }
          }};
}

/// All tasks, in the order of `klab tasks --list`.
const Registry<TaskEntry>& tasks();

/// The config keys `task.*`.
struct TaskConfig : Configurable {
  std::string name = "mqar";
  int64_t length = 64;
  int64_t vocab = 64;
  std::string label;  ///< a name for the task and its options, to group runs by; nothing depends on it

  /// Throws UsageError for an unknown task name.
  void visit(Fields& fields) override;
  /// Throws UsageError if the task's constructor rejects the options.
  void validate() const override;
  std::unique_ptr<Task> make() const;
  /// Sets the option `hash` of a task that has one, unless it is set, to the task's data_hash(): so that a run's config
  /// identifies its data.
  void identify_data();

 private:
  // Options of the task options_for_; reset to the defaults when the name changes.
  std::optional<AnyConfig> options_;
  std::string options_for_;
};

/// Examples [first, first + count) of a split, row-major.
struct ExampleBatch {
  int64_t count, length;
  Example rows;  ///< vectors [count, length], or empty as in Example
};
ExampleBatch example_batch(const Task& task, int64_t seed, Split split, int64_t first, int64_t count);

}  // namespace klab
