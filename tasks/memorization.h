// SPDX-License-Identifier: Apache-2.0
// Memorization: the values of keys, which no sequence contains and only the weights can store.
#pragma once

#include "tasks/task.h"

namespace klab {

struct MemorizationOptions : Configurable {
  int64_t table_seed = 0;

  void visit(Fields& fields) override;
};

/// After Poli et al. 2024 (MAD, arXiv 2403.17844). Inputs k1 <insert> k2 <insert> ..: keys drawn uniformly with
/// replacement; the target at each <insert> is the value of the key before it. Values never occur as inputs. Keys map
/// to values by a random one-to-one table that depends only on task.vocab and table_seed: the same in every example, in
/// training and test, at every length. So the task measures memory in the weights, not in the state. Keys are the
/// first half of the symbols, values the second half. An odd length ends with <pad>.
///
/// All entries are equally difficult; the difficulty is always 1.
class Memorization : public GeneratedTask {
 public:
  Memorization(const TaskShape& shape, const MemorizationOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "level"; }

 private:
  int64_t half() const { return shape_.vocab / 2; }
  int64_t insert() const { return shape_.vocab; }
  int64_t pad() const { return shape_.vocab + 1; }

  TaskShape shape_;
  std::vector<int64_t> value_of_;  // key -> token id of its value
};

}  // namespace klab
