// SPDX-License-Identifier: Apache-2.0
// Shared by the task tests. Oracles work on printed tokens, independent of a task's token ids.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/error.h"
#include "tasks/task.h"

namespace klab {

/// A config with the task under `task.`, as in the program.
struct RootConfig : Configurable {
  TaskConfig task;
  void visit(Fields& fields) override { fields.group("task", task); }
  void validate() const override { task.validate(); }
};

/// A validated config with `settings` ("task.length=64"), as from a command line.
RootConfig configured(const std::vector<std::string>& settings);

/// The task of `configured(settings)`.
std::unique_ptr<Task> make_task(const std::vector<std::string>& settings);

/// The error message for `settings`; fails the test if they are accepted.
std::string refusal(const std::vector<std::string>& settings);

/// The printed inputs and labels; "" for no label.
std::vector<std::string> printed_inputs(const Task& task, const Example& example);
std::vector<std::string> printed_labels(const Task& task, const Example& example);

/// An oracle's result for one sequence.
struct Expected {
  std::vector<std::string> labels;  ///< "" for positions without a target
  std::vector<int64_t> gaps;        ///< -1 for positions without a target
  void none() { ask("", -1); }
  void ask(const std::string& label, int64_t gap) {
    labels.push_back(label);
    gaps.push_back(gap);
  }
};

/// Checks that the three vectors have `length` entries, ids are in range, labels and gaps are as expected, and there is
/// a target.
void expect_example(const Task& task, const Example& example, int64_t length, const Expected& expected);

/// A checksum of inputs, labels and difficulties of examples 0 .. 9 of both splits.
uint64_t golden(const Task& task, int64_t seed);

/// Draws more examples than the task has sequences, from several seeds: train and test share none, although each split
/// repeats sequences across seeds.
void expect_disjoint_splits(const Task& task);

/// For tasks whose sequences begin with 16 of 8 symbols: checks that the symbols are drawn uniformly.
void expect_every_symbol(const Task& task);

/// Checks that all ids have distinct names, and ids outside the vocabulary have none.
void expect_distinct_names(const Task& task);

}  // namespace klab
