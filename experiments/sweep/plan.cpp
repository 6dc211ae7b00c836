// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/plan.h"

#include "core/base/error.h"
#include "core/base/json.h"

namespace klab {
namespace {

// The places of the runs are 0, 1, .. in some order, and the runs have a value of every key.
void check(const Plan& plan, const std::string& origin) {
  std::vector<bool> taken(plan.runs.size(), false);
  for (const PlannedRun& run : plan.runs) {
    const auto place = static_cast<size_t>(run.place);
    if (run.place < 0 || place >= taken.size() || taken[place]) {
      fail("{}: the run '{}' has the place {}, but the {} runs have places from 0 on, each its own", origin, run.id,
           run.place, taken.size());
    }
    taken[place] = true;
    if (run.values.size() != plan.keys.size()) {
      fail("{}: the run '{}' has {} values, but there are {} keys", origin, run.id, run.values.size(),
           plan.keys.size());
    }
  }
  if (plan.halving && plan.halving->factor < 2) {
    fail("{}: halving.factor = {} must be at least 2", origin, plan.halving->factor);
  }
}

}  // namespace

std::vector<size_t> Plan::in_file_order() const {
  std::vector<size_t> order(runs.size());
  for (size_t i = 0; i < runs.size(); ++i) order[static_cast<size_t>(runs[i].place)] = i;
  return order;
}

std::string to_text(const Plan& plan) {
  nlohmann::ordered_json json = to_object(plan);
  json["halving"] = plan.halving ? to_object(*plan.halving) : nlohmann::ordered_json();
  nlohmann::ordered_json& runs = json["runs"] = nlohmann::ordered_json::array();
  for (const PlannedRun& run : plan.runs) runs.push_back(to_object(run));
  return json.dump(1) + "\n";
}

Plan plan_of(const std::string& text, const std::string& origin) {
  const nlohmann::ordered_json json = parse_json(text, origin);
  try {
    Plan plan;
    from_object(json, plan);
    if (const auto& halving = json.at("halving"); !halving.is_null()) from_object(halving, plan.halving.emplace());
    for (const auto& run : json.at("runs")) from_object(run, plan.runs.emplace_back());
    check(plan, origin);
    return plan;
  } catch (const nlohmann::json::exception& error) {
    fail("{} is not a plan of a sweep: {}", origin, error.what());
  }
}

}  // namespace klab
