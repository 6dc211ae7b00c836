// SPDX-License-Identifier: Apache-2.0
// The plan of a sweep, which its workers read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace klab {

/// Successive halving: at each of these steps (rungs) a run continues only if it is among the best 1/factor of the runs
/// up to itself in the plan that reached the rung. Promotion follows the plan's order, not completion order, so that a
/// sweep has only one outcome.
struct Halving {
  std::string metric = "acc_seq";  ///< a column of metrics.csv, on validation data
  int64_t factor = 3;
  std::vector<int64_t> steps;       ///< increasing
  std::vector<std::string> within;  ///< only runs with equal values of these keys are compared

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("metric", self.metric);
    visit("factor", self.factor);
    visit("steps", self.steps);
    visit("within", self.within);
  }
};

struct PlannedRun {
  std::string id;                   ///< hash of the whole config; the name of the run's folder
  std::vector<std::string> values;  ///< values of Plan::keys
  std::string group;                ///< halving compares runs of the same group
  int64_t place = 0;                ///< index in the order of the file
  int64_t steps = 0;
  double tokens = 0;  ///< of all steps

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("id", self.id);
    visit("values", self.values);
    visit("group", self.group);
    visit("place", self.place);
    visit("steps", self.steps);
    visit("tokens", self.tokens);
  }
};

/// A sweep without the configs, which are in the runs' folders.
struct Plan {
  std::string name;               ///< stem of the sweep's file name
  std::vector<std::string> keys;  ///< keys in which the runs differ
  std::vector<PlannedRun> runs;   ///< distinct, in the order of starting: with halving, sorted by id
  int64_t asked = 0;              ///< number of runs in the file, including identical ones
  int64_t threads = 1;            ///< per run; results depend on it bitwise
  std::optional<Halving> halving;

  /// Indices of `runs` in the order of the file.
  std::vector<size_t> in_file_order() const;

  template <class Self, class Visit>  // except runs and halving, which are records themselves
  static void each_field(Self& self, const Visit& visit) {
    visit("name", self.name);
    visit("keys", self.keys);
    visit("asked", self.asked);
    visit("threads", self.threads);
  }
};

/// Converts a plan to JSON and back. Throws Error for an invalid text.
std::string to_text(const Plan& plan);
Plan plan_of(const std::string& text, const std::string& origin);

}  // namespace klab
