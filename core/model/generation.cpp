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

}  // namespace

void Sampling::validate() const {
  require(temperature >= 0 && std::isfinite(temperature), "--temperature", fmt::format("{}", temperature),
          "must be 0 (the most probable token) or positive");
  require(top_k >= 0, "--top-k", fmt::format("{}", top_k), "must be 0 (all tokens) or positive");
  require(top_p > 0 && top_p <= 1, "--top-p", fmt::format("{}", top_p), "must lie in (0, 1]");
}

Sampler::Sampler(const Sampling& sampling, uint64_t stream) : sampling_(sampling), random_{sampling.seed, stream} {}

int64_t Sampler::draw(const Tensor& logits) {
  const Tensor host = logits.to(torch::kCPU, torch::kFloat).contiguous();
  return draw(host.const_data_ptr<float>(), host.numel()).id;
}

DrawnToken Sampler::draw(const float* logits, int64_t vocabulary) {
  if (!std::all_of(logits, logits + vocabulary, [](float x) { return std::isfinite(x); })) {
    fail("the model's logits are not finite");
  }
  const float* largest = std::max_element(logits, logits + vocabulary);
  if (sampling_.temperature == 0) return {largest - logits, 0};
  const auto weight = [&](int64_t id) {
    return std::exp((static_cast<double>(logits[id]) - *largest) / sampling_.temperature);
  };
  double all = 0;
  for (int64_t id = 0; id < vocabulary; ++id) all += weight(id);
  int64_t drawn = largest - logits;  // if rounding leaves a rest
  if (sampling_.top_k > 0 || sampling_.top_p < 1) {
    drawn = draw_from_likeliest(logits, vocabulary, *largest);
  } else {
    double point = random_.uniform() * all;
    for (int64_t id = 0; id < vocabulary && point >= 0; ++id) {
      point -= weight(id);
      if (point < 0) drawn = id;
    }
  }
  return {drawn, std::log(weight(drawn) / all)};
}

// Sorts the most probable tokens in growing batches until their probability reaches top_p.
int64_t Sampler::draw_from_likeliest(const float* value, int64_t vocabulary, double largest) {
  const auto count = static_cast<size_t>(vocabulary);
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](int64_t a, int64_t b) { return value[a] > value[b] || (value[a] == value[b] && a < b); };
  const size_t most = sampling_.top_k > 0 ? std::min(count, static_cast<size_t>(sampling_.top_k)) : count;
  if (most < count) std::nth_element(order.begin(), order.begin() + static_cast<int64_t>(most), order.end(), before);
  order.resize(most);
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

namespace {

// Reads several prompts of at most `chunk` tokens together, packed. Returns the logits [prompts, vocabulary].
Tensor read_packed(Decoder& model, State& state, const std::vector<std::vector<int64_t>>& prompts) {
  if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while reading the prompts");
  std::vector<int64_t> tokens, offsets{0};
  for (const std::vector<int64_t>& prompt : prompts) {
    tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    offsets.push_back(static_cast<int64_t>(tokens.size()));
  }
  const torch::Device device = model->device();
  const Tensor cu_seqlens = torch::tensor(offsets, torch::kLong);
  const Tensor hidden = model->hidden(torch::tensor(tokens, torch::kLong).unsqueeze(0).to(device),
                                      Sequences{cu_seqlens.to(device)}, &state);
  const Tensor last = cu_seqlens.narrow(0, 1, static_cast<int64_t>(prompts.size())) - 1;
  return model->head(hidden.squeeze(0).index_select(0, last.to(device)));
}

// The state of sequences [first, first + count) before their prompts.
State state_before(Decoder& model, const State* past, int64_t first, int64_t count, int64_t all) {
  if (past == nullptr) return model->initial_state(count, model->device());
  State state = past->clone();
  if (count < all) state.reorder(torch::arange(first, first + count));
  return state;
}

// Reads all prompts; returns the logits [prompts, vocabulary] after each, and the state of all sequences.
Tensor read_prompts(Decoder& model, const std::vector<std::vector<int64_t>>& prompts, int64_t chunk, const State* past,
                    State& state) {
  const c10::InferenceMode inference;
  std::vector<State> states;
  std::vector<Tensor> logits;
  for (size_t first = 0; first < prompts.size();) {
    size_t end = first;
    int64_t tokens = 0;
    while (end < prompts.size() && (end == first || tokens + static_cast<int64_t>(prompts[end].size()) <= chunk)) {
      tokens += static_cast<int64_t>(prompts[end++].size());
    }
    State some = state_before(model, past, static_cast<int64_t>(first), static_cast<int64_t>(end - first),
                              static_cast<int64_t>(prompts.size()));
    if (end - first > 1) {
      const auto begin = prompts.begin() + static_cast<int64_t>(first);
      logits.push_back(read_packed(model, some, {begin, begin + static_cast<int64_t>(end - first)}));
    } else {
      const Tensor row = torch::tensor(prompts[first], torch::kLong).unsqueeze(0).to(model->device());
      logits.push_back(prefill(model, some, row, chunk));
    }
    states.push_back(std::move(some));
    first = end;
  }
  state = states.size() == 1 ? std::move(states.front()) : State::join(states);
  return torch::cat(logits).to(torch::kFloat);
}

// Answers that are drawn token by token, as a batch that they leave when they end.
class Decoding {
 public:
  Decoding(const GenerationOptions& options, Generated& result) : options_(options), result_(result) {
    for (size_t i = 0; i < result.tokens.size(); ++i) {
      samplers_.emplace_back(options.sampling, options.streams.empty() ? i : options.streams.at(i));
      answers_.push_back(i);
    }
  }

  bool over() const { return answers_.empty(); }

  // Draws the next token of every row, logits [rows, vocabulary], and drops the rows that end with it.
  void draw(const Tensor& logits) {
    const Tensor host = logits.to(torch::kCPU, torch::kFloat).contiguous();
    last_.clear();
    std::vector<int64_t> staying;
    for (size_t row = 0; row < answers_.size(); ++row) {
      const size_t answer = answers_[row];
      const auto number = static_cast<int64_t>(row);
      const DrawnToken token =
          samplers_[answer].draw(host.const_data_ptr<float>() + number * host.size(1), host.size(1));
      result_.tokens[answer].push_back(token.id);
      result_.log_probs[answer].push_back(static_cast<float>(token.log_prob));
      last_.push_back(token.id);
      if (options_.on_token) options_.on_token(static_cast<int64_t>(answer), token.id);
      if (!ends(answer)) staying.push_back(number);
    }
    if (staying.size() < answers_.size()) keep(staying);
  }

  // [rows, 1] int64, the tokens that were drawn last.
  Tensor last() const { return torch::tensor(last_, torch::kLong).unsqueeze(1); }

 private:
  bool ends(size_t answer) const {
    const std::vector<int64_t>& tokens = result_.tokens[answer];
    return std::find(options_.stop.begin(), options_.stop.end(), tokens.back()) != options_.stop.end() ||
           static_cast<int64_t>(tokens.size()) >= options_.max_new_tokens;
  }

  void keep(const std::vector<int64_t>& rows) {
    if (result_.tokens.size() > 1) result_.state.reorder(torch::tensor(rows, torch::kLong));
    std::vector<size_t> answers;
    std::vector<int64_t> last;
    for (const int64_t row : rows) {
      answers.push_back(answers_[static_cast<size_t>(row)]);
      last.push_back(last_[static_cast<size_t>(row)]);
    }
    answers_ = answers;
    last_ = last;
  }

  const GenerationOptions& options_;
  Generated& result_;
  std::vector<Sampler> samplers_;  // of all answers
  std::vector<size_t> answers_;    // of each row
  std::vector<int64_t> last_;      // the last token of each row
};

}  // namespace

Generated generate(Decoder& model, const std::vector<std::vector<int64_t>>& prompts, const GenerationOptions& options,
                   const State* past) {
  const c10::InferenceMode inference;
  check_tokens(prompts, model->vocabulary());
  options.sampling.validate();
  Generated result;
  result.tokens.resize(prompts.size() * static_cast<size_t>(options.samples));
  result.log_probs.resize(result.tokens.size());

  const Clock::time_point start = Clock::now();
  Tensor logits = read_prompts(model, prompts, options.chunk, past, result.state);
  for (const std::vector<int64_t>& prompt : prompts) result.prompt_tokens += static_cast<int64_t>(prompt.size());
  if (options.samples > 1) {
    const Tensor rows = torch::arange(static_cast<int64_t>(prompts.size())).repeat_interleave(options.samples);
    result.state.reorder(rows);
    logits = logits.index_select(0, rows.to(logits.device()));
  }
  result.prefill_seconds = seconds_since(start);
  if (options.max_new_tokens < 1) return result;

  Decoding decoding(options, result);
  decoding.draw(logits);
  const Clock::time_point decoding_start = Clock::now();
  while (!decoding.over() && interrupt_requested() == 0) {
    const Tensor tokens = decoding.last().to(model->device());
    const Tensor hidden = model->hidden(tokens, {}, &result.state);
    result.decoded_tokens += tokens.size(0);
    decoding.draw(model->head(hidden).squeeze(1));
  }
  result.decode_seconds = seconds_since(decoding_start);
  return result;
}

}  // namespace klab
