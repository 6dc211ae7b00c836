// Compositional MQAR: a value belongs to two symbols together, and to neither of them alone.
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
/// `grid` second symbols once, in random order, each with a value of its own; so every first symbol stands before
/// `grid` values, and every second symbol too. Then every pair is asked once, a b, and answered at b. What follows
/// the values is cut into slots of three positions; a query opens slot i with probability proportional to
/// i^(power_a - 1), without replacement. The positions left over are fillers, none of them a key symbol of this
/// sequence (in the public code they may be). A third of the symbols each are first symbols, second symbols and
/// values; what is left over of a division by three are values.
class CompositionalMqar : public Task {
 public:
  CompositionalMqar(const TaskShape& shape, const CompositionalMqarOptions& options);

  int64_t vocabulary() const override { return shape_.vocab; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  struct Entry {
    int64_t first, second, value, position;  // position: where the value stands
  };

  int64_t third() const { return shape_.vocab / 3; }
  std::vector<Entry> draw_entries(Random& random) const;

  TaskShape shape_;
  int64_t grid_;
  PowerLawSlots slots_;
};

}  // namespace klab
