// SPDX-License-Identifier: Apache-2.0
// Forgetting MQAR: some keys get a second value; queries ask for the last one.
#pragma once

#include "tasks/slots.h"
#include "tasks/task.h"

namespace klab {

struct ForgettingMqarOptions : Configurable {
  int64_t pairs = 8;
  int64_t updates = 4;
  double power_a = 0.01;

  void visit(Fields& fields) override;
};

/// After forgetting_mqar of HazyResearch/zoology. Inputs k1 v1 k2 v2 .., then `updates` more pairs: keys drawn from the
/// first ones, each with a value that differs from its first; then every key is queried once, and the target at the
/// query is the key's last value. Queries and fillers are those of mqar's zoology protocol. Keys are the first half of
/// the symbols, values the second half; the first values are all different.
///
/// Differences to the public code: here the new value always differs from the key's own old one, while zoology compares
/// it with the old value of another key; and here fillers are never keys of the sequence.
class ForgettingMqar : public GeneratedTask {
 public:
  ForgettingMqar(const TaskShape& shape, const ForgettingMqarOptions& options);

  int64_t vocabulary() const override { return shape_.vocab; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  // A key, its last value, and the position of that value.
  struct Entry {
    int64_t key, value, position;
  };

  int64_t half() const { return shape_.vocab / 2; }
  std::vector<Entry> append_pairs(Example& example, Random& random) const;
  void append_updates(Example& example, std::vector<Entry>& entries, Random& random) const;
  void append_queries(Example& example, const std::vector<Entry>& entries, Random& random) const;

  TaskShape shape_;
  int64_t pairs_, updates_;
  PowerLawSlots slots_;
};

}  // namespace klab
