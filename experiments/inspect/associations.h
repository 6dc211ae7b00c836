// SPDX-License-Identifier: Apache-2.0
// The key-value pairs of examples of a recall task, found from tokens and targets alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tasks/task.h"

namespace klab {

/// A key and the value that follows it in an example.
struct Association {
  std::vector<int64_t> key;  ///< its tokens
  int64_t value;             ///< token
  int64_t position;          ///< of the value, where a model knows both and can write them
};

/// A target, and the value in the sequence that it repeats.
struct RecallQuestion {
  int64_t position, value_position;
};

/// The associations of one example, up to the last one that is asked for later.
struct Associations {
  std::vector<Association> written;  ///< by position; a later one replaces an earlier one of the same key
  std::vector<RecallQuestion> questions;
  /// The tokens directly before the first question's key that are neither keys nor values: <sep>, or none.
  std::vector<int64_t> separator;

  /// The number of different keys.
  int64_t keys() const;

  /// What holds after as many tokens as can be read before a key number `count` + 1: the last association of each of
  /// the first `count` keys, in the order in which these keys come first.
  std::vector<Association> first(int64_t count) const;
};

/// The associations of each example. Token roles are those of all examples together: a key ends with a token that has a
/// target, and a value is a token that is a target. An association is a key followed by a value (by its target, where
/// the key has one). Keys have as many tokens as every question shares with the place that it repeats, so pairs of
/// symbols (compositional_mqar) are found as such. Throws UsageError, which names `task`, where this does not describe
/// the examples: without targets, if tokens are both keys and values, or if a target is not the value of the last
/// association of its key.
std::vector<Associations> associations_of(const std::vector<Example>& examples, const std::string& task);

}  // namespace klab
