// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/sweep_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "experiments/sweep/builtin_sweeps.h"

namespace klab {
namespace {

using Point = std::vector<Assignment>;

constexpr int64_t kMostRuns = 100000;  // of one sweep
constexpr int64_t kMostSteps = 1'000'000'000;
constexpr double kLargestInteger = 9e15;  // below it a double is exact

struct Condition {
  Point when, set;
  std::vector<std::vector<Assignment>> axes;
  bool skip = false;
};

// Rounds to significant digits, so that drawn values have a short text.
double rounded(double x, int digits) {
  if (x == 0) return 0;
  const int decimals = digits - 1 - static_cast<int>(std::floor(std::log10(std::abs(x))));
  const double scale = std::pow(10.0, std::abs(decimals));
  return decimals >= 0 ? std::round(x * scale) / scale : std::round(x / scale) * scale;
}

// The value of a key in a map; undefined (false) if missing.
YAML::Node child(const YAML::Node& map, const std::string& key) {
  for (const auto& entry : map) {
    if (entry.first.IsScalar() && entry.first.Scalar() == key) return entry.second;
  }
  return YAML::Node(YAML::NodeType::Undefined);
}

// The parts of a sweep file, checked for shape.
struct SweepFile {
  Point base;
  std::vector<std::vector<Assignment>> axes;  // one list per key, in file order
  std::vector<Point> draws;                   // points of `random`
  std::vector<Assignment> seeds;
  std::vector<Condition> conditions;
  std::optional<Halving> halving;
  Point overrides, study;
};

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  SweepFile read(const YAML::Node& root) const {
    if (!root.IsMap()) refuse("{}: a sweep is a map with base, grid, seeds, random, conditions, halving", path_);
    only_keys(root, {"base", "grid", "seeds", "random", "conditions", "overrides", "halving", "study"});
    SweepFile file;
    file.base = assignments_of(child(root, "base"), path_);
    file.axes = axes(child(root, "grid"), "grid");
    if (child(root, "seeds")) file.seeds = axis("train.seed", child(root, "seeds"));
    file.draws = draws(child(root, "random"));
    file.conditions = conditions(child(root, "conditions"));
    file.halving = halving(child(root, "halving"));
    file.overrides = assignments_of(child(root, "overrides"), path_);
    file.study = assignments_of(child(root, "study"), path_);
    return file;
  }

 private:
  // A key or a word; `what` names it in messages.
  std::string word(const YAML::Node& node, const std::string& what) const {
    if (!node.IsScalar()) refuse("{}: {} must be a plain word", origin_of(node, path_), what);
    return node.Scalar();
  }

  void only_keys(const YAML::Node& map, const std::vector<std::string>& known) const {
    for (const auto& entry : map) {
      const std::string key = word(entry.first, "a key");
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        refuse("{}: unknown key '{}'{}. Known keys: {}", origin_of(entry.first, path_), key, did_you_mean(key, known),
               join(known));
      }
    }
  }

  std::vector<Assignment> axis(const std::string& key, const YAML::Node& values) const {
    if (!values.IsSequence() || values.size() == 0) {
      refuse("{}: '{}' must be a list of values", origin_of(values, path_), key);
    }
    std::vector<Assignment> all;
    for (const auto& value : values) all.push_back({key, field_value(value, key, path_), origin_of(value, path_)});
    return all;
  }

  // Keys may be nested or dotted; a list is an axis.
  void collect_axes(const YAML::Node& node, const std::string& prefix,
                    std::vector<std::vector<Assignment>>& all) const {
    for (const auto& entry : node) {
      const std::string key = prefix + word(entry.first, "a key");
      if (entry.second.IsMap()) {
        collect_axes(entry.second, key + ".", all);
        continue;
      }
      for (const auto& earlier : all) {
        if (earlier.front().key == key) refuse("{}: '{}' occurs twice", origin_of(entry.first, path_), key);
      }
      all.push_back(axis(key, entry.second));
    }
  }

  std::vector<std::vector<Assignment>> axes(const YAML::Node& node, const char* name) const {
    std::vector<std::vector<Assignment>> all;
    if (!node || node.IsNull()) return all;
    if (!node.IsMap()) refuse("{}: '{}' must be a map of keys to lists", origin_of(node, path_), name);
    collect_axes(node, "", all);
    return all;
  }

  std::pair<double, double> range(const YAML::Node& node, const std::string& key) const {
    if (!node.IsSequence() || node.size() != 2) refuse("{}: '{}' must be [low, high]", origin_of(node, path_), key);
    try {
      const std::pair<double, double> ends{node[0].as<double>(), node[1].as<double>()};
      if (ends.first < ends.second && std::isfinite(ends.second - ends.first)) return ends;
    } catch (const YAML::Exception&) {
    }
    refuse("{}: '{}' must be [low, high], two numbers with low < high", origin_of(node, path_), key);
  }

  Value draw(const YAML::Node& how, const std::string& key, Random& random) const {
    if (how.IsSequence()) {  // a plain list is a choice
      if (how.size() == 0) refuse("{}: '{}' must be a list of values", origin_of(how, path_), key);
      return field_value(how[random.below(how.size())], key, path_);
    }
    if (!how.IsMap() || how.size() != 1) {
      refuse("{}: '{}' must be a list, or one of uniform, log_uniform, integer with [low, high]", origin_of(how, path_),
             key);
    }
    only_keys(how, {"uniform", "log_uniform", "integer", "choice"});
    const std::string kind = word(how.begin()->first, "a key");
    const YAML::Node of = how.begin()->second;  // a copy, because the iterator returns a temporary
    if (kind == "choice") return draw(of, key, random);
    const auto [low, high] = range(of, key);
    const double u = random.uniform();
    if (kind == "integer") {
      if (std::max(std::abs(low), std::abs(high)) > kLargestInteger) {
        refuse("{}: '{}': the bounds of an integer must be within {}", origin_of(of, path_), key, kLargestInteger);
      }
      return static_cast<int64_t>(low) + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low) + 1));
    }
    if (kind == "uniform") return rounded(low + u * (high - low), 6);
    if (low <= 0) refuse("{}: '{}': log_uniform needs positive bounds", origin_of(of, path_), key);
    return rounded(std::exp(std::log(low) + u * (std::log(high) - std::log(low))), 4);
  }

  int64_t whole(const YAML::Node& node, const std::string& key, Range<int64_t> range) const {
    int64_t value = 0;
    if (!node.IsScalar() || !YAML::convert<int64_t>::decode(node, value) || !range.contains(value)) {
      refuse("{}: '{}' must be an integer between {} and {}", origin_of(node, path_), key, range.least, range.most);
    }
    return value;
  }

  void collect_random(const YAML::Node& node, const std::string& prefix,
                      std::vector<std::pair<std::string, YAML::Node>>& keys) const {
    for (const auto& entry : node) {
      const std::string key = prefix + word(entry.first, "a key");
      if (key == "runs" || key == "seed") continue;
      const YAML::Node how = entry.second;
      const bool nested = how.IsMap() && how.size() > 0 && (how.begin()->second.IsMap() || how.size() > 1);
      if (nested) {
        collect_random(how, key + ".", keys);
      } else {
        keys.emplace_back(key, how);
      }
    }
  }

  std::vector<Point> draws(const YAML::Node& node) const {
    if (!node || node.IsNull()) return {};
    if (!node.IsMap() || !child(node, "runs")) {
      refuse("{}: 'random' must be a map with `runs: N` and the keys to draw", origin_of(node, path_));
    }
    const int64_t runs = whole(child(node, "runs"), "random.runs", {1, kMostRuns});
    const int64_t seed =
        child(node, "seed") ? whole(child(node, "seed"), "random.seed", {0, std::numeric_limits<int64_t>::max()}) : 0;
    std::vector<std::pair<std::string, YAML::Node>> keys;
    collect_random(node, "", keys);
    std::vector<Point> all;
    for (int64_t i = 0; i < runs; ++i) {
      Random random{static_cast<uint64_t>(seed), static_cast<uint64_t>(i)};
      Point& point = all.emplace_back();
      for (const auto& [key, how] : keys) point.push_back({key, draw(how, key, random), origin_of(how, path_)});
    }
    return all;
  }

  std::vector<Condition> conditions(const YAML::Node& node) const {
    std::vector<Condition> all;
    if (!node || node.IsNull()) return all;
    if (!node.IsSequence()) refuse("{}: 'conditions' must be a list of {{when, set}}", origin_of(node, path_));
    for (const auto& item : node) {
      if (!item.IsMap() || !child(item, "when")) refuse("{}: a condition needs `when`", origin_of(item, path_));
      only_keys(item, {"when", "set", "grid", "skip"});
      Condition condition;
      condition.when = assignments_of(child(item, "when"), path_);
      condition.set = assignments_of(child(item, "set"), path_);
      condition.axes = axes(child(item, "grid"), "grid");
      condition.skip = child(item, "skip") && word(child(item, "skip"), "'skip'") == "true";
      all.push_back(std::move(condition));
    }
    return all;
  }

  std::optional<Halving> halving(const YAML::Node& node) const {
    if (!node || node.IsNull()) return {};
    if (!node.IsMap() || !child(node, "steps")) {
      refuse("{}: 'halving' needs `steps: [..]`, at which runs are compared", origin_of(node, path_));
    }
    only_keys(node, {"metric", "steps", "factor", "within"});
    Halving halving;
    if (child(node, "metric")) halving.metric = word(child(node, "metric"), "'halving.metric'");
    const std::vector<std::string> metrics = {"acc_seq", "acc_tok", "loss"};
    if (std::find(metrics.begin(), metrics.end(), halving.metric) == metrics.end()) {
      refuse("{}: halving.metric '{}' is not one of: {}", origin_of(child(node, "metric"), path_), halving.metric,
             join(metrics));
    }
    if (child(node, "factor")) halving.factor = whole(child(node, "factor"), "halving.factor", {2, 1000});
    if (!child(node, "steps").IsSequence())
      refuse("{}: 'halving.steps' must be a list", origin_of(child(node, "steps"), path_));
    for (const auto& step : child(node, "steps"))
      halving.steps.push_back(whole(step, "halving.steps", {1, kMostSteps}));
    if (!std::is_sorted(halving.steps.begin(), halving.steps.end())) {
      refuse("{}: 'halving.steps' must increase", origin_of(child(node, "steps"), path_));
    }
    if (child(node, "within")) {
      const YAML::Node keys = child(node, "within");
      if (!keys.IsSequence()) refuse("{}: 'halving.within' must be a list of keys", origin_of(keys, path_));
      for (const auto& key : keys) halving.within.push_back(word(key, "a key of 'halving.within'"));
    }
    return halving;
  }

  std::string path_;
};

void check_count(size_t runs) {
  if (runs > size_t{kMostRuns}) refuse("the sweep has {} runs; at most {} are allowed", runs, kMostRuns);
}

// The Cartesian product; the first axis varies slowest.
std::vector<Point> product(const std::vector<Point>& points, const std::vector<Assignment>& axis) {
  std::vector<Point> all;
  check_count(points.size() * axis.size());
  for (const Point& point : points) {
    for (const Assignment& value : axis) {
      all.push_back(point);
      all.back().push_back(value);
    }
  }
  return all;
}

// Whether the config has these values, independent of their notation.
bool fits(const RunConfig& config, const Point& when) {
  RunConfig wanted = config;
  assign(wanted, when);
  const Fields a = Fields::of(config), b = Fields::of(wanted);
  return std::all_of(when.begin(), when.end(), [&](const Assignment& one) {
    const Field *has = a.find(one.key), *expected = b.find(one.key);
    return has != nullptr && expected != nullptr && has->get() == expected->get();
  });
}

std::vector<Point> apply_condition(const Condition& condition, const std::vector<Point>& points) {
  std::vector<Point> all;
  for (const Point& point : points) {
    if (!fits(assigned_run_config(point), condition.when)) {
      all.push_back(point);
    } else if (!condition.skip) {
      std::vector<Point> changed{point};
      changed[0].insert(changed[0].end(), condition.set.begin(), condition.set.end());
      for (const auto& axis : condition.axes) changed = product(changed, axis);
      all.insert(all.end(), changed.begin(), changed.end());
    }
  }
  return all;
}

std::vector<Point> points_of(const SweepFile& file) {
  std::vector<Point> points{file.base};
  for (const auto& axis : file.axes) points = product(points, axis);
  if (!file.draws.empty()) {
    check_count(points.size() * file.draws.size());
    std::vector<Point> drawn;
    for (const Point& point : points) {
      for (const Point& draw : file.draws) {
        drawn.push_back(point);
        drawn.back().insert(drawn.back().end(), draw.begin(), draw.end());
      }
    }
    points = std::move(drawn);
  }
  for (const Condition& condition : file.conditions) points = apply_condition(condition, points);
  if (!file.seeds.empty()) points = product(points, file.seeds);
  check_count(points.size());
  return points;
}

// The config's values as text, by key.
std::map<std::string, std::string> texts_of(const RunConfig& config) {
  std::map<std::string, std::string> texts;
  for (const auto& [key, value] : values_of(config)) texts[key] = text_of(value);
  return texts;
}

// Finds the keys in which runs differ. It keeps a value per key, not one per key and run.
class VariedKeys {
 public:
  // `named` come first. A run that does not have such a key differs from those that do; other options that only some
  // runs have are determined by other keys (task or mixer names).
  explicit VariedKeys(const std::vector<std::string>& named) : named_(named), order_(named) {}

  void add(const std::map<std::string, std::string>& texts) {
    for (const std::string& key : named_) compare(key, texts.contains(key) ? texts.at(key) : "");
    for (const auto& [key, text] : texts) {
      if (std::find(named_.begin(), named_.end(), key) != named_.end()) continue;
      if (compare(key, text)) order_.push_back(key);
    }
  }

  std::vector<std::string> keys() const {
    std::vector<std::string> varied = order_;
    std::erase_if(varied, [&](const std::string& key) { return !varied_.contains(key); });
    return varied;
  }

 private:
  // Returns whether the key is new.
  bool compare(const std::string& key, const std::string& text) {
    const auto at = first_.emplace(key, text);
    if (at.first->second != text) varied_.insert(key);
    return at.second;
  }

  const std::vector<std::string>& named_;
  std::vector<std::string> order_;
  std::map<std::string, std::string> first_;
  std::set<std::string> varied_;
};

std::vector<std::string> named_keys(const std::vector<Point>& points) {
  std::vector<std::string> keys;
  for (const Point& point : points) {
    for (const Assignment& given : point) {
      if (std::find(keys.begin(), keys.end(), given.key) == keys.end()) keys.push_back(given.key);
    }
  }
  return keys;
}

// Removes duplicate runs and finds the keys in which they differ.
Sweep distinct(const std::string& name, std::vector<RunConfig> configs, const std::vector<std::string>& named,
               const std::vector<std::string>& shown) {
  Sweep sweep;
  sweep.plan.name = name;
  sweep.plan.asked = static_cast<int64_t>(configs.size());
  std::set<std::string> seen;
  VariedKeys varied(named);
  for (RunConfig& config : configs) {
    PlannedRun run;
    run.id = config_hash(config);
    if (!seen.insert(run.id).second) continue;
    run.place = static_cast<int64_t>(sweep.plan.runs.size());
    run.steps = config.train.steps;
    run.tokens = static_cast<double>(config.train.steps) * static_cast<double>(config.train.batch * config.task.length);
    varied.add(texts_of(config));
    sweep.plan.runs.push_back(std::move(run));
    sweep.configs.push_back(std::move(config));
  }
  sweep.plan.keys = shown;
  for (const std::string& key : varied.keys()) {
    if (std::find(shown.begin(), shown.end(), key) == shown.end()) sweep.plan.keys.push_back(key);
  }
  for (size_t i = 0; i < sweep.plan.runs.size(); ++i) {
    const std::map<std::string, std::string> texts = texts_of(sweep.configs[i]);
    for (const std::string& key : sweep.plan.keys) {
      const auto found = texts.find(key);
      sweep.plan.runs[i].values.push_back(found == texts.end() ? "" : found->second);
    }
  }
  return sweep;
}

void check(const Halving& halving, const RunConfig& config, const std::string& path) {
  for (const int64_t step : halving.steps) {
    if (step % config.train.eval_every != 0) {
      refuse("{}: halving.steps: {} is not a multiple of train.eval_every = {}: there is no evaluation at that step",
             path, step, config.train.eval_every);
    }
  }
}

void check_keys(const std::vector<std::string>& within, const std::map<std::string, std::string>& texts,
                const std::string& path) {
  std::vector<std::string> known;
  for (const auto& [key, text] : texts) known.push_back(key);
  for (const std::string& key : within) {
    if (!texts.contains(key)) refuse("{}: halving.within: unknown key '{}'{}", path, key, did_you_mean(key, known));
  }
}

// Sorts by id, a hash: a deterministic shuffle. In file order every run along an axis could be better than all before
// it, and halving would stop none.
void shuffle(Sweep& sweep) {
  std::vector<PlannedRun> runs = sweep.plan.runs;
  std::sort(runs.begin(), runs.end(), [](const PlannedRun& a, const PlannedRun& b) { return a.id < b.id; });
  std::vector<RunConfig> configs;
  for (const PlannedRun& run : runs) configs.push_back(sweep.configs[static_cast<size_t>(run.place)]);
  sweep.plan.runs = std::move(runs);
  sweep.configs = std::move(configs);
}

}  // namespace

Sweep make_sweep(const std::string& name, const std::vector<RunConfig>& configs,
                 const std::vector<std::string>& shown) {
  return distinct(name, configs, {}, shown);
}

namespace {

Sweep sweep_of(const YAML::Node& root, const std::string& path, const std::vector<Assignment>& overrides) {
  const SweepFile file = Reader(path).read(root);
  std::vector<Point> points = points_of(file);
  for (Point& point : points) {
    for (const std::vector<Assignment>& more : {file.overrides, overrides}) {
      point.insert(point.end(), more.begin(), more.end());
    }
  }
  if (points.empty()) refuse("{}: the conditions skip every run", path);
  std::vector<RunConfig> configs;
  for (const Point& point : points) configs.push_back(make_run_config(point));
  Sweep sweep = distinct(std::filesystem::path(path).stem().string(), std::move(configs), named_keys(points), {});
  sweep.study = file.study;
  if (!file.halving) return sweep;
  sweep.plan.halving = file.halving;
  for (size_t i = 0; i < sweep.configs.size(); ++i) {
    check(*file.halving, sweep.configs[i], path);
    const std::map<std::string, std::string> texts = texts_of(sweep.configs[i]);
    check_keys(file.halving->within, texts, path);
    for (const std::string& key : file.halving->within) sweep.plan.runs[i].group += texts.at(key) + "\n";
  }
  shuffle(sweep);
  return sweep;
}

}  // namespace

Sweep read_sweep(const std::string& path, const std::vector<Assignment>& overrides) {
  return sweep_of(load_yaml(path), path, overrides);
}

Sweep parse_sweep(const std::string& text, const std::string& name, const std::vector<Assignment>& overrides) {
  return sweep_of(parse_yaml(text, name), name, overrides);
}

Sweep read_builtin_sweep(const std::string& name, const std::vector<Assignment>& overrides) {
  return parse_sweep(std::string(builtin_sweep(name)), name, overrides);
}

}  // namespace klab
