// SPDX-License-Identifier: Apache-2.0
// The in-context recall tasks of MAD: a stream of key-value pairs in which keys recur.
#pragma once

#include <map>

#include "tasks/task.h"

namespace klab {

/// In-context recall has no options.
struct InContextRecallOptions : Configurable {
  void visit(Fields&) override {}
};

struct FuzzyRecallOptions : Configurable {
  int64_t key_tokens = 3;
  int64_t value_tokens = 3;
  bool longest_keys = false;

  void visit(Fields& fields) override;
};

struct NoisyRecallOptions : Configurable {
  double noise = 0.2;
  int64_t noise_vocab = 16;

  void visit(Fields& fields) override;
};

/// After Poli et al. 2024 (MAD, arXiv 2403.17844), in the multi-query form that its benchmark uses. Inputs key value
/// key value ..: every key is drawn independently, and its value is drawn at the key's first occurrence. Whenever a key
/// recurs its value is the target, at the last token of the key and at each token of the value but the last; the value
/// is also an input. The last pair always repeats an earlier key, so every example has a target. The gap is the number
/// of tokens since the value's last occurrence. Keys are made of the first half of the symbols, values of the second
/// half; two keys may have the same value. Lengths that the pairs do not fill end with <pad>.
///
/// - in_context_recall: keys and values are single symbols.
/// - fuzzy_recall: keys have 1 .. key_tokens symbols and values 1 .. value_tokens, the number drawn uniformly; the
///   symbols within one key or value are all different. A key ends where a value begins.
/// - noisy_recall: with the given probability two noise tokens, from a separate vocabulary, replace a pair.
///
/// Differences to the public code: in training it has a target at every position, most of them unpredictable; here, as
/// in its tests, only positions with a known answer have one. It trains fuzzy recall with keys of all lengths and tests
/// with the longest only: longest_keys gives every key the maximum length. It fixes in advance which pair ends the
/// sequence; here that is drawn uniformly among the earlier keys.
class Recall : public GeneratedTask {
 public:
  Recall(const TaskShape& shape, const InContextRecallOptions& options);
  Recall(const TaskShape& shape, const FuzzyRecallOptions& options);
  Recall(const TaskShape& shape, const NoisyRecallOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  // The parameters in which the three tasks differ.
  struct Rule {
    std::string task;
    int64_t key_tokens = 1, value_tokens = 1;
    bool longest_keys = false;
    double noise = 0;
    int64_t noise_vocab = 0;
  };
  // The symbols of one key or one value.
  using Motif = std::vector<int64_t>;
  // The value of a key, and the position of its last occurrence.
  struct Entry {
    Motif value;
    int64_t position = 0;
  };
  using Memory = std::map<Motif, Entry>;

  Recall(const TaskShape& shape, Rule rule);

  int64_t half() const { return shape_.vocab / 2; }
  int64_t pad() const { return shape_.vocab + rule_.noise_vocab; }
  int64_t longest_pair() const { return rule_.key_tokens + rule_.value_tokens; }
  int64_t draw_key_size(Random& random) const;
  int64_t draw_value_size(Random& random) const;
  Motif draw_motif(int64_t size, int64_t first_symbol, Random& random) const;
  void append_pair(Example& example, const Motif& key, Memory& memory, Random& random) const;
  void append_noise(Example& example, Random& random) const;

  TaskShape shape_;
  Rule rule_;
};

}  // namespace klab
