// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/associations.h"

#include <algorithm>
#include <limits>
#include <set>

#include "core/base/error.h"

namespace klab {
namespace {

[[noreturn]] void refuse_task(const std::string& task, const std::string& reason) {
  refuse(
      "task.name = {} has no associations to edit in a state: {}; mqar, forgetting_mqar, compositional_mqar, "
      "in_context_recall and noisy_recall have keys with values of one token",
      task, reason);
}

struct TokenRoles {
  std::set<int64_t> keys, values;

  bool none(int64_t token) const { return keys.count(token) == 0 && values.count(token) == 0; }
};

TokenRoles token_roles(const std::vector<Example>& examples) {
  TokenRoles roles;
  for (const Example& example : examples) {
    for (size_t t = 0; t < example.inputs.size(); ++t) {
      if (example.labels[t] < 0) continue;
      roles.keys.insert(example.inputs[t]);
      roles.values.insert(example.labels[t]);
    }
  }
  return roles;
}

// The number of equal tokens that end at the positions a < b.
int64_t equal_tokens(const std::vector<int64_t>& inputs, size_t a, size_t b) {
  size_t n = 0;
  while (n <= a && inputs[a - n] == inputs[b - n]) ++n;
  return static_cast<int64_t>(n);
}

// The most tokens that the question at position t shares with an earlier place that its target follows; 0: none.
int64_t longest_key(const Example& example, size_t t) {
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < t; ++s) {
    if (example.inputs[s + 1] == example.labels[t]) longest = std::max(longest, equal_tokens(example.inputs, s, t));
  }
  return longest;
}

// The number of tokens of a key; 0 if a target repeats no earlier value.
int64_t key_tokens(const std::vector<Example>& examples) {
  int64_t tokens = std::numeric_limits<int64_t>::max();
  for (const Example& example : examples) {
    for (size_t t = 0; t < example.labels.size(); ++t) {
      if (example.labels[t] >= 0) tokens = std::min(tokens, longest_key(example, t));
    }
  }
  return tokens;
}

// The `tokens` tokens that end at position t, fewer at the start.
std::vector<int64_t> key_at(const Example& example, int64_t t, int64_t tokens) {
  const auto end = example.inputs.begin() + t + 1;
  return {end - std::min(tokens, t + 1), end};
}

std::vector<Association> all_pairs(const Example& example, const TokenRoles& roles, int64_t tokens) {
  std::vector<Association> pairs;
  for (int64_t t = tokens - 1; t + 1 < example.size(); ++t) {
    const int64_t label = example.labels[static_cast<size_t>(t)], next = example.inputs[static_cast<size_t>(t) + 1];
    const bool is_key = roles.keys.count(example.inputs[static_cast<size_t>(t)]) > 0;
    if (is_key && roles.values.count(next) > 0 && (label < 0 || label == next))
      pairs.push_back({key_at(example, t, tokens), next, t + 1});
  }
  return pairs;
}

// The last of the pairs before position t with this key, or null.
const Association* last_before(const std::vector<Association>& pairs, int64_t t, const std::vector<int64_t>& key) {
  const Association* found = nullptr;
  for (const Association& pair : pairs) {
    if (pair.position < t && pair.key == key) found = &pair;
  }
  return found;
}

std::vector<int64_t> separator_before(const Example& example, const TokenRoles& roles, int64_t end) {
  int64_t first = end;
  while (first > 0 && roles.none(example.inputs[static_cast<size_t>(first) - 1])) --first;
  return {example.inputs.begin() + first, example.inputs.begin() + end};
}

Associations associations_in(const Example& example, const TokenRoles& roles, int64_t tokens, const std::string& task) {
  const std::vector<Association> pairs = all_pairs(example, roles, tokens);
  Associations found;
  int64_t last = -1;  // the last value that is asked for
  for (int64_t t = 0; t < example.size(); ++t) {
    const int64_t label = example.labels[static_cast<size_t>(t)];
    if (label < 0) continue;
    const Association* pair = last_before(pairs, t, key_at(example, t, tokens));
    if (pair == nullptr || pair->value != label) {
      refuse_task(task, "a target is not the value that last followed its key in the sequence");
    }
    if (found.questions.empty()) found.separator = separator_before(example, roles, t + 1 - tokens);
    found.questions.push_back({t, pair->position});
    last = std::max(last, pair->position);
  }
  for (const Association& pair : pairs) {
    if (pair.position <= last) found.written.push_back(pair);
  }
  return found;
}

}  // namespace

int64_t Associations::keys() const {
  std::set<std::vector<int64_t>> different;
  for (const Association& pair : written) different.insert(pair.key);
  return static_cast<int64_t>(different.size());
}

std::vector<Association> Associations::first(int64_t count) const {
  std::vector<Association> held;
  for (const Association& pair : written) {
    const auto same = std::find_if(held.begin(), held.end(), [&](const auto& other) { return other.key == pair.key; });
    if (same != held.end()) {
      *same = pair;
    } else if (static_cast<int64_t>(held.size()) == count) {
      break;
    } else {
      held.push_back(pair);
    }
  }
  return held;
}

std::vector<Associations> associations_of(const std::vector<Example>& examples, const std::string& task) {
  const TokenRoles roles = token_roles(examples);
  if (roles.keys.empty()) refuse_task(task, "there are no targets");
  const bool both =
      std::any_of(roles.keys.begin(), roles.keys.end(), [&](int64_t token) { return roles.values.count(token) > 0; });
  if (both) refuse_task(task, "the same tokens are asked for and are answers");
  const int64_t tokens = key_tokens(examples);
  if (tokens == 0) refuse_task(task, "a target is not a value that followed its key in the sequence");
  std::vector<Associations> all;
  for (const Example& example : examples) all.push_back(associations_in(example, roles, tokens, task));
  return all;
}

}  // namespace klab
