// SPDX-License-Identifier: Apache-2.0
// Compositional MQAR: keys are pairs of symbols; neither symbol alone determines the value.
#pragma once

#include "tasks/slots.h"
#include "tasks/task.h"

namespace klab {

struct CompositionalMqarOptions : Configurable {
  int64_t grid = 2;
  double power_a = 0.01;

  void visit(Fields& fields) override;
};

/// After compositional_mqar of HazyResearch/zoology. Inputs a1 b1 v1 a2 b2 v2 ..: every pair of `grid` first and
/// `grid` second symbols once, in random order, each with a different value; so every first symbol and every second
/// symbol occurs with `grid` values. Then every pair is queried once, as a b, with the target at b. The positions after
/// the values form slots of three; a query is placed at the start of slot i with probability proportional to
/// i^(power_a - 1), without replacement. All other positions are fillers, none of them a key symbol of this sequence
/// (in the public code they may be). The first third of the symbols are first key symbols, the second third second key
/// symbols; the rest, including the remainder of the division by three, are values.
class CompositionalMqar : public GeneratedTask {
 public:
  CompositionalMqar(const TaskShape& shape, const CompositionalMqarOptions& options);

  int64_t vocabulary() const override { return shape_.vocab; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  struct Entry {
    int64_t first, second, value, position;  // position: of the value
  };

  int64_t third() const { return shape_.vocab / 3; }
  std::vector<Entry> draw_entries(Random& random) const;

  TaskShape shape_;
  int64_t grid_;
  PowerLawSlots slots_;
};

}  // namespace klab
