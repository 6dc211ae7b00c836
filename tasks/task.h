// A task: a generator of (inputs, labels) pairs that tests memory, and its vocabulary.
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

/// One sequence. All three have `length` entries.
struct Example {
  std::vector<int64_t> inputs;      ///< token ids in [0, vocabulary)
  std::vector<int64_t> labels;      ///< token id to predict at this position, or kNoTarget
  std::vector<int64_t> difficulty;  ///< how hard the target is, by the task's own measure; -1 without one

  /// Positions so far, which is also the position that the next append fills.
  int64_t size() const { return static_cast<int64_t>(inputs.size()); }
  /// Adds one position without a target.
  void append(int64_t input) { append(input, kNoTarget, -1); }
  /// Adds one position at which `label` is to be predicted.
  void append(int64_t input, int64_t label, int64_t how_hard);
};

/// Difficulties as they are where there are few, else the powers of two at or below them: slices to average over.
int64_t slice_of(int64_t difficulty, int64_t hardest);

/// What every task can be sized by.
struct TaskShape {
  int64_t length;  ///< tokens of a sequence
  int64_t vocab;   ///< symbols to remember; separators and commands come on top
};

class Task {
 public:
  virtual ~Task() = default;

  /// Token ids that occur: symbols, separators and commands.
  virtual int64_t vocabulary() const = 0;
  /// Draws one example; all its randomness comes from `random`.
  virtual Example generate(Random& random) const = 0;
  /// How a token id is written for people, for example "<sep>" or "k7".
  virtual std::string token_name(int64_t id) const = 0;
  /// What `difficulty` counts, for example "gap" (tokens since the item was stored).
  virtual std::string difficulty_name() const = 0;
};

/// A line of the registry.
struct TaskEntry {
  std::string name;
  std::string summary;
  /// The task's own options (config keys `task.<name>.*`), with their defaults.
  AnyConfig options;
  /// Builds the task; `options` are of the type of the entry's. Throws UsageError for a shape that it cannot have.
  std::function<std::unique_ptr<Task>(const TaskShape&, const AnyConfig& options)> make;
};

/// All tasks, in the order of `klab tasks --list`.
const Registry<TaskEntry>& tasks();

/// The config keys `task.*`.
struct TaskConfig : Configurable {
  std::string name = "mqar";
  int64_t length = 64;
  int64_t vocab = 64;

  /// Throws UsageError for a name that no task has.
  void visit(Fields& fields) override;
  /// Throws UsageError for whatever the task's constructor refuses.
  void validate() const override;
  std::unique_ptr<Task> make() const;

 private:
  // Of the task that options_for_ names; the defaults again when the name changes.
  std::optional<AnyConfig> options_;
  std::string options_for_;
};

enum class Split { train, test };

/// Example number `index` of a split: the same on every machine, and train and test never share a sequence,
/// whatever the seeds: a hash of the inputs decides to which of the two a sequence belongs. Throws Error when
/// the task is so small that no such sequence is found.
Example example(const Task& task, int64_t seed, Split split, int64_t index);

/// Examples [first, first + count) of a split, row after row.
struct ExampleBatch {
  int64_t count, length;
  std::vector<int64_t> inputs, labels, difficulty;  ///< each [count, length]
};
ExampleBatch example_batch(const Task& task, int64_t seed, Split split, int64_t first, int64_t count);

}  // namespace klab
