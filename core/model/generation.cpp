// SPDX-License-Identifier: Apache-2.0
#include "core/model/generation.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/interrupt.h"

namespace klab {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

constexpr size_t kFirstCandidates = 64;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void check_tokens(const std::vector<std::vector<int64_t>>& prompts, int64_t vocabulary) {
  if (prompts.empty()) refuse("there is no prompt");
  for (const std::vector<int64_t>& prompt : prompts) {
    if (prompt.empty()) refuse("a prompt has no token");
    for (const int64_t token : prompt) {
      if (token < 0 || token >= vocabulary) {
        refuse("token {} is not in the vocabulary of the model, 0..{}", token, vocabulary - 1);
      }
    }
  }
}

// The sequences that are still decoded.
struct Batch {
  std::vector<size_t> sequence;  // prompt index of each row
  std::vector<int64_t> last;     // last token of each row
  void drop(State& state, const std::vector<size_t>& rows_that_stay) {
    std::vector<int64_t> rows, tokens;
    std::vector<size_t> numbers;
    for (const size_t row : rows_that_stay) {
      rows.push_back(static_cast<int64_t>(row));
      numbers.push_back(sequence[row]);
      tokens.push_back(last[row]);
    }
    state.reorder(torch::tensor(rows, torch::kLong));
    sequence = numbers;
    last = tokens;
  }
};

}  // namespace

void Sampling::validate() const {
  require(temperature >= 0 && std::isfinite(temperature), "--temperature", fmt::format("{}", temperature),
          "must be 0 (the most probable token) or positive");
  require(top_k >= 0, "--top-k", fmt::format("{}", top_k), "must be 0 (all tokens) or positive");
  require(top_p > 0 && top_p <= 1, "--top-p", fmt::format("{}", top_p), "must lie in (0, 1]");
}

Sampler::Sampler(const Sampling& sampling, int64_t sequence)
    : sampling_(sampling), random_{sampling.seed, static_cast<uint64_t>(sequence)} {}

int64_t Sampler::draw(const Tensor& logits) {
  const Tensor host = logits.to(torch::kCPU, torch::kFloat).contiguous();
  const float* value = host.const_data_ptr<float>();
  const auto count = static_cast<size_t>(host.numel());
  if (!torch::isfinite(host).all().item<bool>()) fail("the model's logits are not finite");
  if (sampling_.temperature == 0) return std::max_element(value, value + count) - value;

  // Sorts the most probable tokens in growing batches until their probability reaches top_p.
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](int64_t a, int64_t b) { return value[a] > value[b] || (value[a] == value[b] && a < b); };
  const size_t most = sampling_.top_k > 0 ? std::min(count, static_cast<size_t>(sampling_.top_k)) : count;
  if (most < count) std::nth_element(order.begin(), order.begin() + static_cast<int64_t>(most), order.end(), before);
  order.resize(most);
  const double largest = *std::max_element(value, value + count);
  const auto weight = [&](int64_t id) { return std::exp((value[id] - largest) / sampling_.temperature); };
  double all = 0;
  for (const int64_t id : order) all += weight(id);
  const double wanted = sampling_.top_p * all;
  double kept = 0;
  size_t sorted = 0, end = 0;
  while (end < most && (end == 0 || kept < wanted)) {
    if (end == sorted) {
      sorted = std::min(most, std::max(kFirstCandidates, 4 * sorted));
      std::partial_sort(order.begin() + static_cast<int64_t>(end), order.begin() + static_cast<int64_t>(sorted),
                        order.end(), before);
    }
    kept += weight(order[end++]);
  }
  double point = random_.uniform() * kept;
  for (size_t i = 0; i < end; ++i) {
    point -= weight(order[i]);
    if (point < 0) return order[i];
  }
  return order[end - 1];
}

Tensor prefill(Decoder& model, State& state, const Tensor& tokens, int64_t chunk) {
  const c10::InferenceMode inference;
  const int64_t T = tokens.size(1);
  Tensor last;  // [B, 1, D]
  for (int64_t start = 0; start < T; start += chunk) {
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while reading the prompt");
    const Tensor hidden = model->hidden(tokens.narrow(1, start, std::min(chunk, T - start)), {}, &state);
    last = hidden.narrow(1, hidden.size(1) - 1, 1);
  }
  return model->head(last).squeeze(1).to(torch::kFloat);
}

Generated generate(Decoder& model, const std::vector<std::vector<int64_t>>& prompts, const GenerationOptions& options,
                   const State* past) {
  const c10::InferenceMode inference;
  const torch::Device device = model->device();
  check_tokens(prompts, model->vocabulary());
  options.sampling.validate();
  Generated result;
  result.tokens.resize(prompts.size());
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < prompts.size(); ++i) samplers.emplace_back(options.sampling, static_cast<int64_t>(i));
  Batch batch;

  // Draws the next token of every row, and drops the rows that end with that token.
  const auto draw = [&](const Tensor& logits) {
    std::vector<size_t> staying;
    for (size_t row = 0; row < batch.sequence.size(); ++row) {
      const size_t number = batch.sequence[row];
      const int64_t token = samplers[number].draw(logits[static_cast<int64_t>(row)]);
      std::vector<int64_t>& answer = result.tokens[number];
      answer.push_back(token);
      batch.last[row] = token;
      if (options.on_token) options.on_token(static_cast<int64_t>(number), token);
      const bool stops = std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end();
      if (!stops && static_cast<int64_t>(answer.size()) < options.max_new_tokens) staying.push_back(row);
    }
    if (staying.size() < batch.sequence.size() && (prompts.size() > 1 || staying.empty())) {
      if (prompts.size() > 1) batch.drop(result.state, staying);
      if (staying.empty()) batch.sequence.clear();
    }
  };

  const Clock::time_point start = Clock::now();
  std::vector<State> states;
  std::vector<Tensor> first;
  for (size_t i = 0; i < prompts.size(); ++i) {
    State state = past == nullptr ? model->initial_state(1, device) : past->clone();
    if (past != nullptr && prompts.size() > 1) state.reorder(torch::tensor({static_cast<int64_t>(i)}));
    const Tensor tokens = torch::tensor(prompts[i], torch::kLong).unsqueeze(0).to(device);
    first.push_back(prefill(model, state, tokens, options.chunk));
    states.push_back(std::move(state));
    result.prompt_tokens += static_cast<int64_t>(prompts[i].size());
    batch.sequence.push_back(i);
    batch.last.push_back(0);
  }
  result.state = states.size() == 1 ? std::move(states.front()) : State::join(states);
  result.prefill_seconds = seconds_since(start);
  if (options.max_new_tokens < 1) return result;
  draw(torch::cat(first));

  const Clock::time_point decoding = Clock::now();
  while (!batch.sequence.empty() && interrupt_requested() == 0) {
    const Tensor tokens = torch::tensor(batch.last, torch::kLong).unsqueeze(1).to(device);
    const Tensor hidden = model->hidden(tokens, {}, &result.state);
    result.decoded_tokens += tokens.size(0);
    draw(model->head(hidden).squeeze(1).to(torch::kFloat));
  }
  result.decode_seconds = seconds_since(decoding);
  return result;
}

}  // namespace klab
