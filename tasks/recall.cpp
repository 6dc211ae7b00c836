// SPDX-License-Identifier: Apache-2.0
#include "tasks/recall.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {
namespace {

// Limits far above any trainable size.
constexpr int64_t kLongestMotif = 1 << 12;
constexpr int64_t kLargestNoise = 1 << 24;

}  // namespace

void FuzzyRecallOptions::visit(Fields& fields) {
  fields("key_tokens", key_tokens, {1, kLongestMotif}, "maximum number of symbols of a key");
  fields("value_tokens", value_tokens, {1, kLongestMotif}, "maximum number of symbols of a value");
  fields("longest_keys", longest_keys, "every key has key_tokens symbols; otherwise 1 to key_tokens");
}

void NoisyRecallOptions::visit(Fields& fields) {
  fields("noise", noise, {0, 1, Ends::below_most}, "probability that noise tokens replace a pair");
  fields("noise_vocab", noise_vocab, {1, kLargestNoise}, "noise tokens, in addition to task.vocab");
}

Recall::Recall(const TaskShape& shape, const InContextRecallOptions&) : Recall(shape, Rule{"in_context_recall"}) {}

Recall::Recall(const TaskShape& shape, const FuzzyRecallOptions& options)
    : Recall(shape, Rule{"fuzzy_recall", options.key_tokens, options.value_tokens, options.longest_keys}) {}

Recall::Recall(const TaskShape& shape, const NoisyRecallOptions& options)
    : Recall(shape, Rule{"noisy_recall", 1, 1, false, options.noise, options.noise_vocab}) {}

Recall::Recall(const TaskShape& shape, Rule rule) : shape_(shape), rule_(std::move(rule)) {
  require(shape.length >= 2 * longest_pair(), "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for {}: a key-value pair, twice", 2 * longest_pair(), rule_.task));
  const int64_t symbols = std::max<int64_t>({4, 2 * rule_.key_tokens, 2 * rule_.value_tokens});
  require(shape.vocab >= symbols && shape.vocab % 2 == 0, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be even and at least {} for {}: the first half are keys, the second values", symbols,
                      rule_.task));
}

int64_t Recall::draw_key_size(Random& random) const {
  if (rule_.longest_keys) return rule_.key_tokens;
  return 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(rule_.key_tokens)));
}

int64_t Recall::draw_value_size(Random& random) const {
  return 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(rule_.value_tokens)));
}

Recall::Motif Recall::draw_motif(int64_t size, int64_t first_symbol, Random& random) const {
  Motif motif;
  while (static_cast<int64_t>(motif.size()) < size) {
    const int64_t symbol = first_symbol + static_cast<int64_t>(random.below(static_cast<uint64_t>(half())));
    if (std::find(motif.begin(), motif.end(), symbol) == motif.end()) motif.push_back(symbol);
  }
  return motif;
}

Example Recall::generate(Random& random) const {
  Example example;
  Memory memory;
  // Leaves space for the last pair, which may be of maximum length.
  while (example.size() + 2 * longest_pair() <= shape_.length) {
    // At least one pair is stored before the last one.
    const bool may_be_noise = !memory.empty() || example.size() + 3 * longest_pair() <= shape_.length;
    if (rule_.noise > 0 && random.uniform() < rule_.noise && may_be_noise) {
      append_noise(example, random);
    } else {
      append_pair(example, draw_motif(draw_key_size(random), 0, random), memory, random);
    }
  }
  const auto last = std::next(memory.begin(), static_cast<int64_t>(random.below(memory.size())));
  append_pair(example, last->first, memory, random);
  append_padding(example, shape_.length, pad());
  return example;
}

void Recall::append_noise(Example& example, Random& random) const {
  for (int i = 0; i < 2; ++i) {
    example.append(shape_.vocab + static_cast<int64_t>(random.below(static_cast<uint64_t>(rule_.noise_vocab))));
  }
}

void Recall::append_pair(Example& example, const Motif& key, Memory& memory, Random& random) const {
  const auto [found, is_new] = memory.try_emplace(key);
  Entry& entry = found->second;
  if (is_new) entry.value = draw_motif(draw_value_size(random), half(), random);
  for (size_t i = 0; i + 1 < key.size(); ++i) example.append(key[i]);
  const int64_t gap = example.size() - entry.position;
  entry.position = example.size() + 1;
  int64_t input = key.back();
  for (const int64_t symbol : entry.value) {
    if (is_new) {
      example.append(input);
    } else {
      example.append(input, symbol, gap);
    }
    input = symbol;
  }
  example.append(input);
}

std::string Recall::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("{} has no token {}: the ids are 0 to {}", rule_.task, id, pad());
  if (id == pad()) return "<pad>";
  if (id >= shape_.vocab) return fmt::format("n{}", id - shape_.vocab);
  return id < half() ? fmt::format("k{}", id) : fmt::format("v{}", id - half());
}

TaskEntry in_context_recall_task() {
  return task_entry<Recall, InContextRecallOptions>("in_context_recall", "recall the values of recurring keys (MAD)");
}

TaskEntry fuzzy_recall_task() {
  return task_entry<Recall, FuzzyRecallOptions>("fuzzy_recall", "recall with keys and values of several symbols (MAD)");
}

TaskEntry noisy_recall_task() {
  return task_entry<Recall, NoisyRecallOptions>("noisy_recall", "recall with noise tokens between the pairs (MAD)");
}

}  // namespace klab
