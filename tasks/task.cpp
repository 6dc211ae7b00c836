// SPDX-License-Identifier: Apache-2.0
#include "tasks/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {
namespace {

// Far above any trainable size; up to it no count of tokens or weights overflows.
constexpr int64_t kLargest = int64_t{1} << 24;

constexpr int64_t kFewDifficulties = 16;

constexpr std::array<const char*, 3> kSplits = {"train", "test", "validation"};  // in the order of Split

// One sequence in 16 belongs to the test split and one to validation: their streams cost 16 draws for each example.
constexpr uint64_t kShares = 16, kTestShare = 0, kValidationShare = 8;
// If 1/16 of the sequences are test sequences, all attempts miss them with probability (15/16)^10000 < 1e-280.
constexpr uint64_t kAttempts = 10000;

// Integer arithmetic only, so that the split is the same on every machine; without the seed, so that it is the same
// for every seed.
uint64_t sequence_hash(const std::vector<int64_t>& tokens) {
  uint64_t hash = tokens.size();
  for (const int64_t token : tokens) {
    hash = (hash ^ static_cast<uint64_t>(token)) * 0x9ddfea08eb382d69;
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93;
    hash ^= hash >> 29;
  }
  return hash;
}

}  // namespace

void Example::append(int64_t input, int64_t label, int64_t how_hard) {
  inputs.push_back(input);
  labels.push_back(label);
  difficulty.push_back(how_hard);
}

int64_t slice_of(int64_t difficulty, int64_t hardest) {
  if (hardest < kFewDifficulties || difficulty <= 1) return difficulty;
  int64_t low = 1;
  while (2 * low <= difficulty) low *= 2;
  return low;
}

void TaskConfig::visit(Fields& fields) {
  fields("name", name, "the task: " + join(tasks().names()));
  fields("length", length, {1, kLargest}, "tokens of a sequence");
  fields("vocab", vocab, {1, kLargest}, "symbols; separators and commands are added to them");
  fields("label", label, "a name for the task and its options, to group runs by; nothing depends on it");
  if (!options_ || options_for_ != name) {
    options_ = tasks().at(name).options;
    options_for_ = name;
  }
  fields.group(name, options_->get());
}

void TaskConfig::validate() const { make(); }

std::unique_ptr<Task> TaskConfig::make() const {
  const TaskEntry& entry = tasks().at(name);
  const TaskShape shape{length, vocab};
  // options_ may still belong to the previous name.
  if (options_ && options_for_ == name) return entry.make(shape, *options_);
  return entry.make(shape, entry.options);
}

void TaskConfig::identify_data() {
  Fields fields = Fields::of(*this);
  const Field* hash = fields.find(name + ".hash");
  if (hash != nullptr && hash->get().get<std::string>().empty()) hash->set(make()->data_hash());
}

std::string to_string(Split split) { return kSplits.at(static_cast<size_t>(split)); }

Split split_named(const std::string& name) {
  const auto found = std::find(kSplits.begin(), kSplits.end(), name);
  if (found == kSplits.end()) refuse("split = {}: must be train, validation or test", name);
  return static_cast<Split>(found - kSplits.begin());
}

Split split_of_hash(uint64_t hash) {
  const uint64_t share = hash % kShares;
  return share == kTestShare ? Split::test : share == kValidationShare ? Split::validation : Split::train;
}

Example GeneratedTask::example(int64_t seed, Split split, int64_t index) const {
  for (uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    Random random{static_cast<uint64_t>(seed), static_cast<uint64_t>(split), static_cast<uint64_t>(index), attempt};
    Example drawn = generate(random);
    if (split_of_hash(sequence_hash(split_key(drawn))) == split) return drawn;
  }
  fail(
      "{} draws of the task gave no sequence of the {} split: it has too few different sequences for "
      "separate training, validation and test streams. Make task.length or task.vocab larger",
      kAttempts, to_string(split));
}

ExampleBatch example_batch(const Task& task, int64_t seed, Split split, int64_t first, int64_t count) {
  ExampleBatch batch{count, 0, {}};
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (int64_t index = first; index < first + count; ++index) {
    const Example row = task.example(seed, split, index);
    batch.length = row.size();
    append(batch.rows.inputs, row.inputs);
    append(batch.rows.labels, row.labels);
    append(batch.rows.difficulty, row.difficulty);
    append(batch.rows.starts, row.starts);
    append(batch.rows.bytes, row.bytes);
    append(batch.rows.surprisal, row.surprisal);
  }
  return batch;
}

}  // namespace klab
