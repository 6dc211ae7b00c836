// SPDX-License-Identifier: Apache-2.0
// The update of RlTrainer: from judged answers to gradients.
#include <torch/nn/module.h>

#include <algorithm>

#include "core/rl/rl_trainer.h"
#include "core/rl/rollout.h"
#include "core/train/score.h"

namespace klab {
namespace {

using torch::Tensor;

std::vector<const Answer*> pointers(const std::vector<Answer>& answers) {
  std::vector<const Answer*> all;
  for (const Answer& answer : answers) all.push_back(&answer);
  return all;
}

Tensor sampled_log_probs(const std::vector<Answer>& answers, const torch::Device& device) {
  std::vector<float> all;
  for (const Answer& answer : answers) all.insert(all.end(), answer.log_probs.begin(), answer.log_probs.end());
  return torch::tensor(all).to(device);
}

// The tokens of the answers `chosen`, in increasing order, of all tokens; without log_probs.
PolicyTokens select_tokens(const PolicyTokens& all, const std::vector<size_t>& chosen) {
  std::vector<int64_t> order(chosen.begin(), chosen.end());
  const Tensor answers = torch::tensor(order, torch::kLong).to(all.answer.device());
  // The place of every answer among the chosen, -1 if it is not.
  Tensor place = torch::full({all.advantage.size(0)}, -1, all.answer.options());
  place.index_put_({answers}, torch::arange(answers.size(0), all.answer.options()));
  const Tensor places = place.index_select(0, all.answer);
  const Tensor where = places.ge(0).nonzero().squeeze(-1);
  return {{},
          all.before.index_select(0, where),
          all.weights.index_select(0, where),
          places.index_select(0, where),
          all.advantage.index_select(0, answers)};
}

// The rewards [groups, samples] from which advantages are computed.
Tensor total_rewards(const std::vector<Answer>& answers, const RlConfig& rl) {
  std::vector<float> all;
  const auto samples = static_cast<size_t>(rl.samples);
  for (size_t first = 0; first < answers.size(); first += samples) {
    std::vector<int64_t> lengths;
    std::vector<bool> right;
    for (size_t i = first; i < first + samples; ++i) {
      lengths.push_back(static_cast<int64_t>(answers[i].tokens.size()));
      right.push_back(answers[i].right());
    }
    const std::vector<double> short_rewards = length_rewards(lengths, right);
    for (size_t i = 0; i < samples; ++i) {
      all.push_back(static_cast<float>(answers[first + i].reward + rl.length_penalty * short_rewards[i]));
    }
  }
  return torch::tensor(all).view({-1, rl.samples});
}

double share(int64_t part, size_t all) { return static_cast<double>(part) / static_cast<double>(all); }

}  // namespace

// The answers of each minibatch. Groups without a signal are left out: those of right answers alone, and those whose
// rewards are equal. The others are dealt out in turn.
std::vector<std::vector<size_t>> RlTrainer::deal_groups(const std::vector<Answer>& answers, const Tensor& rewards) {
  IterationReport& report = status_.iteration;
  const auto groups = static_cast<size_t>(rewards.size(0));
  std::vector<size_t> with_signal;
  int64_t all_right = 0, all_equal = 0;
  for (size_t group = 0; group < groups; ++group) {
    const Tensor row = rewards[static_cast<int64_t>(group)];
    const auto begin = answers.begin() + static_cast<int64_t>(group) * rl_.samples;
    if (std::all_of(begin, begin + rl_.samples, [](const Answer& one) { return one.right(); })) {
      ++all_right;
    } else if (row.eq(row[0]).all().item<bool>()) {
      ++all_equal;
    } else {
      with_signal.push_back(group);
    }
  }
  report.all_right = share(all_right, groups);
  report.all_equal = share(all_equal, groups);
  status_.iterations_without_signal = with_signal.empty() ? status_.iterations_without_signal + 1 : 0;
  const auto samples = static_cast<size_t>(rl_.samples);
  std::vector<std::vector<size_t>> dealt(std::min(with_signal.size(), static_cast<size_t>(controller_.minibatches)));
  for (size_t i = 0; i < with_signal.size(); ++i) {
    for (size_t j = 0; j < samples; ++j) dealt[i % dealt.size()].push_back(with_signal[i] * samples + j);
  }
  return dealt;
}

void RlTrainer::update(const std::vector<Answer>& answers) {
  IterationReport& report = status_.iteration;
  const TokenPredictions before = predict_without_gradients(model_, answers, rl_.temperature);
  report.entropy = before.entropy.mean().item<double>();
  check_finite(report.entropy, "entropy");
  report.importance = truncated_importance(before.log_probs, sampled_log_probs(answers, device_), rl_.max_importance);
  std::vector<int64_t> lengths;
  for (const Answer& answer : answers) lengths.push_back(static_cast<int64_t>(answer.tokens.size()));
  const Tensor rewards = total_rewards(answers, rl_);
  const Tensor of_token =
      torch::arange(static_cast<int64_t>(answers.size())).repeat_interleave(torch::tensor(lengths)).to(device_);
  const PolicyTokens all{
      {}, before.log_probs, report.importance.weights, of_token, advantages(rewards, rl_).reshape({-1}).to(device_)};

  const std::vector<const Answer*> given = pointers(answers);
  for (const std::vector<size_t>& minibatch : deal_groups(answers, rewards)) {
    sums_->begin_step();
    accumulate_gradients(given, minibatch, all);
    if (rl_.ptx_weight > 0) report.ptx_loss += add_ptx_gradients();
    sums_->end_last_part();
    apply_gradients();
  }
  if (report.updates == 0) return;
  const auto updates = static_cast<double>(report.updates);
  for (double* sum : {&report.loss, &report.ptx_loss, &report.grad_norm, &report.ratio_clipped}) *sum /= updates;
  report.kl = divergence(before.log_probs, predict_without_gradients(model_, answers, rl_.temperature).log_probs);
  check_finite(report.kl, "divergence of the policy");
}

// Backward of the mean loss over the answers of a minibatch, in train.accumulate parts.
void RlTrainer::accumulate_gradients(const std::vector<const Answer*>& answers, const std::vector<size_t>& minibatch,
                                     const PolicyTokens& all) {
  IterationReport& report = status_.iteration;
  const size_t size = (minibatch.size() - 1) / static_cast<size_t>(config_.accumulate) + 1;
  for (size_t first = 0; first < minibatch.size(); first += size) {
    if (first > 0) sums_->end_part();
    if (first + size >= minibatch.size() && rl_.ptx_weight == 0) sums_->begin_last_part();
    const size_t end = std::min(minibatch.size(), first + size);
    const std::vector<size_t> part(minibatch.begin() + static_cast<int64_t>(first),
                                   minibatch.begin() + static_cast<int64_t>(end));
    std::vector<const Answer*> chosen;
    for (const size_t i : part) chosen.push_back(answers[i]);
    PolicyTokens tokens = select_tokens(all, part);
    tokens.log_probs = predict_answers(model_, chosen, rl_.temperature).log_probs;
    const PolicyLoss loss = policy_loss(tokens, rl_, controller_.kl_weight);
    const double weight = share(static_cast<int64_t>(part.size()), minibatch.size());
    const Tensor weighted = loss.mean * weight;
    check_finite(weighted.item<double>(), "policy loss");
    weighted.backward();
    report.loss += weighted.item<double>();
    report.ratio_clipped += weight * loss.clipped_share;
  }
}

double RlTrainer::add_ptx_gradients() {
  const Batch batch = data_.ptx(updates_).map([&](const Tensor& x) { return x.to(device_); });
  Tensor loss;
  const Score score = score_batch(model_, batch, &loss);
  check_finite(score.loss(), "cross-entropy on rl.ptx_tasks");
  sums_->end_part();
  sums_->begin_last_part();
  (loss * rl_.ptx_weight).backward();
  return score.loss();
}

void RlTrainer::apply_gradients() {
  const double norm = sums_->clip_norm(config_.max_grad_norm);
  check_finite(norm, "norm of the gradients");
  optimizer_->step(status_.train.lr);
  if (clip_) status_.train.largest_logit = std::max(status_.train.largest_logit, clip_->after_step(*ranks_));
  model_->after_step(*ranks_);
  status_.iteration.grad_norm += norm;
  status_.train.grad_norm = norm;
  ++status_.iteration.updates;
  ++updates_;
}

}  // namespace klab
