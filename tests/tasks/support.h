// What the task tests share. The oracles work on printed tokens: they do not know how a task numbers its ids.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/error.h"
#include "tasks/task.h"

namespace klab {

/// A config as the program has it, with the task under `task.`.
struct RootConfig : Configurable {
  TaskConfig task;
  void visit(Fields& fields) override { fields.group("task", task); }
  void validate() const override { task.validate(); }
};

/// The config with `settings` ("task.length=64") set and validated, as from a command line.
RootConfig configured(const std::vector<std::string>& settings);

/// The task of `configured(settings)`.
std::unique_ptr<Task> make_task(const std::vector<std::string>& settings);

/// The message with which `settings` are refused; fails the test when they are not.
std::string refusal(const std::vector<std::string>& settings);

/// The inputs, and the labels ("" where there is none), as people read them.
std::vector<std::string> printed_inputs(const Task& task, const Example& example);
std::vector<std::string> printed_labels(const Task& task, const Example& example);

/// What an oracle worked out for one sequence.
struct Expected {
  std::vector<std::string> labels;  ///< "" where nothing may be asked
  std::vector<int64_t> gaps;        ///< -1 where nothing may be asked
  void none() { ask("", -1); }
  void ask(const std::string& label, int64_t gap) {
    labels.push_back(label);
    gaps.push_back(gap);
  }
};

/// Three columns of `length` rows, ids in range, labels and gaps as expected, at least one of them.
void expect_example(const Task& task, const Example& example, int64_t length, const Expected& expected);

/// One number for the examples 0 .. 9 of both splits: inputs, labels and difficulty.
uint64_t golden(const Task& task, int64_t seed);

/// Draws more examples than the task has sequences, from several seeds: train and test share none, although
/// each of them, within itself, repeats sequences across seeds.
void expect_disjoint_splits(const Task& task);

/// For tasks that begin with 16 symbols out of 8: each of them is drawn as often as the others.
void expect_every_symbol(const Task& task);

/// Every id has a name of its own, and there is none outside the vocabulary.
void expect_distinct_names(const Task& task);

}  // namespace klab
