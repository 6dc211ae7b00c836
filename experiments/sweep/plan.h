// What a sweep is made of: the plan that its workers read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace klab {

/// Successive halving: at each of these steps a run goes on only while it is among the best 1/factor of those that came
/// before it in the plan and got so far. The verdicts do not depend on who was faster, so a sweep has one outcome.
struct Halving {
  std::string metric = "acc_seq";  ///< a column of metrics.csv, on the held-out stream
  int64_t factor = 3;
  std::vector<int64_t> steps;       ///< rising
  std::vector<std::string> within;  ///< only runs that agree in these keys are held against one another

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("metric", self.metric);
    visit("factor", self.factor);
    visit("steps", self.steps);
    visit("within", self.within);
  }
};

struct PlannedRun {
  std::string id;                   ///< hash of the whole config, and the name of the run's folder
  std::vector<std::string> values;  ///< of Plan::keys
  std::string group;                ///< runs of one group are held against one another
  int64_t place = 0;                ///< among the runs as the file names them
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

/// Everything about a sweep but the configs, which stand in the runs' folders.
struct Plan {
  std::string name;               ///< of the sweep's file, without folder and ending
  std::vector<std::string> keys;  ///< in which the runs differ
  std::vector<PlannedRun> runs;   ///< distinct; in the order in which they are started: by id where there is halving
  int64_t asked = 0;              ///< runs that the file names, identical ones included
  int64_t threads = 1;            ///< of each run; part of what makes its bits
  std::optional<Halving> halving;

  /// Positions of the runs.
  std::vector<size_t> in_file_order() const;

  template <class Self, class Visit>  // but for runs and halving, which are records themselves
  static void each_field(Self& self, const Visit& visit) {
    visit("name", self.name);
    visit("keys", self.keys);
    visit("asked", self.asked);
    visit("threads", self.threads);
  }
};

/// The plan as JSON, and back. Throws Error for a text that is no plan.
std::string to_text(const Plan& plan);
Plan plan_of(const std::string& text, const std::string& origin);

}  // namespace klab
