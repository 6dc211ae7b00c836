#include "experiments/sweep/plan.h"

#include "core/base/error.h"
#include "core/base/json.h"

namespace klab {

std::vector<size_t> Plan::in_file_order() const {
  std::vector<size_t> order(runs.size());
  for (size_t i = 0; i < runs.size(); ++i) order[static_cast<size_t>(runs[i].place)] = i;
  return order;
}

std::string to_text(const Plan& plan) {
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  for (const PlannedRun& run : plan.runs) {
    runs.push_back({{"id", run.id},
                    {"values", run.values},
                    {"group", run.group},
                    {"place", run.place},
                    {"steps", run.steps},
                    {"tokens", run.tokens}});
  }
  nlohmann::ordered_json json{{"name", plan.name},       {"keys", plan.keys},  {"asked", plan.asked},
                              {"threads", plan.threads}, {"halving", nullptr}, {"runs", runs}};
  if (plan.halving) {
    const Halving& h = *plan.halving;
    json["halving"] = {{"metric", h.metric},
                       {"larger_is_better", h.larger_is_better},
                       {"factor", h.factor},
                       {"steps", h.steps},
                       {"within", h.within}};
  }
  return json.dump(1) + "\n";
}

Plan plan_of(const std::string& text, const std::string& origin) {
  const nlohmann::ordered_json json = parse_json(text, origin);
  try {
    Plan plan;
    json.at("name").get_to(plan.name);
    json.at("keys").get_to(plan.keys);
    json.at("asked").get_to(plan.asked);
    json.at("threads").get_to(plan.threads);
    if (const auto& h = json.at("halving"); !h.is_null()) {
      Halving& halving = plan.halving.emplace();
      h.at("metric").get_to(halving.metric);
      h.at("larger_is_better").get_to(halving.larger_is_better);
      h.at("factor").get_to(halving.factor);
      h.at("steps").get_to(halving.steps);
      h.at("within").get_to(halving.within);
    }
    for (const auto& item : json.at("runs")) {
      PlannedRun& run = plan.runs.emplace_back();
      item.at("id").get_to(run.id);
      item.at("values").get_to(run.values);
      item.at("group").get_to(run.group);
      item.at("place").get_to(run.place);
      item.at("steps").get_to(run.steps);
      item.at("tokens").get_to(run.tokens);
    }
    return plan;
  } catch (const nlohmann::json::exception& error) {
    fail("{} is no plan of a sweep: {}", origin, error.what());
  }
}

}  // namespace klab
