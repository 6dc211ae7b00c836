// SPDX-License-Identifier: Apache-2.0
#include "core/train/lr_factors.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {
namespace {

constexpr double kLargestFactor = 1e6;
constexpr size_t kNamesShown = 5;

struct Entry : Configurable {
  LrFactor read;
  void visit(Fields& fields) override {
    fields("match", read.match, "regular expression for names of parameters");
    fields("factor", read.factor, {0, kLargestFactor}, "on the learning rate");
  }
};

std::regex expression_of(const LrFactor& factor) {
  try {
    return std::regex(factor.match);
  } catch (const std::regex_error& error) {
    refuse("train.lr_factors: match = {} must be a regular expression: {}", factor.match, error.what());
  }
}

size_t longest_common_part(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), now(b.size() + 1);
  size_t longest = 0;
  for (const char c : a) {
    for (size_t j = 0; j < b.size(); ++j) {
      now[j + 1] = c == b[j] ? before[j] + 1 : 0;
      longest = std::max(longest, now[j + 1]);
    }
    std::swap(before, now);
  }
  return longest;
}

// The names that share the longest part with the expression, best first.
std::vector<std::string> most_like(const std::string& match, const std::vector<TrainedParameter>& parameters) {
  std::vector<std::pair<size_t, std::string>> names;
  for (const TrainedParameter& parameter : parameters) {
    names.emplace_back(longest_common_part(match, parameter.name), parameter.name);
  }
  std::stable_sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<std::string> best;
  for (size_t i = 0; i < std::min(kNamesShown, names.size()); ++i) best.push_back(names[i].second);
  return best;
}

}  // namespace

std::vector<LrFactor> lr_factors_of(const std::vector<Value>& maps) {
  std::vector<LrFactor> factors;
  for (size_t i = 0; i < maps.size(); ++i) {
    const std::string key = fmt::format("train.lr_factors[{}]", i);
    Entry entry;
    std::vector<Assignment> assignments;
    for (const auto& [name, value] : maps[i].items()) assignments.push_back({name, value, key});
    assign(entry, assignments);
    for (const char* needed : {"match", "factor"}) {
      require(maps[i].contains(needed), key, text_of(maps[i]), fmt::format("must have the key {}", needed));
    }
    require(!entry.read.match.empty(), key, text_of(maps[i]), "must have a match that is not empty");
    expression_of(entry.read);
    factors.push_back(entry.read);
  }
  return factors;
}

void apply_lr_factors(const std::vector<LrFactor>& factors, std::vector<TrainedParameter>& parameters) {
  for (const LrFactor& factor : factors) {
    const std::regex expression = expression_of(factor);
    bool matched = false;
    for (TrainedParameter& parameter : parameters) {
      if (!std::regex_search(parameter.name, expression)) continue;
      parameter.lr_factor = factor.factor;
      matched = true;
    }
    if (matched) continue;
    refuse("train.lr_factors: no parameter matches '{}'; there are {} with names such as {}", factor.match,
           parameters.size(), join(most_like(factor.match, parameters)));
  }
}

}  // namespace klab
