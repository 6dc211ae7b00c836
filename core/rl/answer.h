// SPDX-License-Identifier: Apache-2.0
// Prompts and sampled answers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace klab {

/// A question, and an answer that is known to be right.
struct Prompt {
  std::vector<int64_t> tokens;
  std::vector<int64_t> reference;
  int64_t variant = 0;  ///< of the task
};

/// A sampled answer.
struct Answer {
  const Prompt* prompt = nullptr;
  std::vector<int64_t> tokens;   ///< with the end token, if it was drawn
  std::vector<float> log_probs;  ///< of the tokens, under the policy that sampled them
  double reward = 0;

  /// Rewards lie in [0, 1]; 1 is right.
  bool right() const { return reward >= 1; }
};

/// What a reward function sees.
struct Attempt {
  const std::vector<int64_t>&prompt, &reference, &answer;
  /// The printed name of a token.
  const std::function<std::string(int64_t)>& name;

  /// The names of tokens, one after another.
  std::string text(const std::vector<int64_t>& tokens) const {
    std::string all;
    for (const int64_t token : tokens) all += name(token);
    return all;
  }
};

/// In [0, 1]; 1 is right.
using RewardFunction = std::function<double(const Attempt&)>;

}  // namespace klab
