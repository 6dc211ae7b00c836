// SPDX-License-Identifier: Apache-2.0
// MQAR, multi-query associative recall: store key-value pairs, then answer queries.
#pragma once

#include "tasks/slots.h"
#include "tasks/task.h"

namespace klab {

struct MqarOptions : Configurable {
  std::string protocol = "report";
  int64_t pairs = 0;
  double power_a = 0.01;

  void visit(Fields& fields) override;
};

/// Inputs k1 v1 k2 v2 .., then queries; the target at a query is the value of its key, and values are not fed back.
/// Keys are the first half of the symbols, values the second half; within a sequence no key and no value occurs in two
/// pairs. Protocols:
///
/// - report: <sep> ends the pairs; every position after it is a query, drawn uniformly with replacement.
/// - zoology (Arora et al. 2023): every key is queried once. The positions after the pairs form slots of two
///   positions; a query is placed at the start of slot i with probability proportional to i^(power_a - 1), without
///   replacement. All other positions are fillers: symbols that are not keys of this sequence. No <sep> is needed,
///   because the pairs always end at the same position and a filler has no target.
class Mqar : public GeneratedTask {
 public:
  Mqar(const TaskShape& shape, const MqarOptions& options);

  int64_t vocabulary() const override { return zoology_ ? shape_.vocab : shape_.vocab + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  // Key and value of each pair, in sequence order.
  struct Pairs {
    std::vector<int64_t> keys, values;
  };

  int64_t half() const { return shape_.vocab / 2; }
  int64_t separator() const { return shape_.vocab; }
  Pairs draw_pairs(Random& random) const;
  void append_query(Example& example, const Pairs& pairs, int64_t pair) const;
  void append_report_queries(Example& example, const Pairs& pairs, Random& random) const;
  void append_zoology_queries(Example& example, const Pairs& pairs, Random& random) const;

  TaskShape shape_;
  bool zoology_;
  int64_t pairs_;
  PowerLawSlots slots_;  // positions of zoology's queries
};

}  // namespace klab
