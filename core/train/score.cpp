// SPDX-License-Identifier: Apache-2.0
#include "core/train/score.h"

#include <torch/nn/module.h>

#include "core/train/target_loss.h"

namespace klab {

using torch::Tensor;

bool better(const Metrics& a, const Metrics& b) {
  return std::pair(a.acc_seq, -a.loss) > std::pair(b.acc_seq, -b.loss);
}

bool better(const std::string& metric, double a, double b) {
  const bool larger = metric.find("acc") != std::string::npos;
  return larger ? a > b : a < b;
}

Score& Score::operator+=(const Score& other) {
  loss_sum += other.loss_sum;
  surprisal_sum += other.surprisal_sum;
  bytes += other.bytes;
  targets += other.targets;
  targets_right += other.targets_right;
  sequences += other.sequences;
  sequences_right += other.sequences_right;
  return *this;
}

namespace {

// A model's predictions at the supervised positions of a batch.
struct Answers {
  Tensor where;   // flat indices into [B * T]
  Tensor labels;  // [targets]
  TargetLoss loss;

  // [B, T] to [targets]; undefined stays undefined.
  Tensor at_targets(const Tensor& x) const { return x.defined() ? x.reshape({-1}).index_select(0, where) : x; }
};

// The sequences of a batch with packed rows, as one row [1, B * T].
Sequences packed(const Tensor& starts) {
  const Tensor ends = torch::full({1}, starts.numel(), starts.options());
  return {torch::cat({starts.reshape({-1}).nonzero().squeeze(-1), ends})};
}

// [B, T, D], or [1, B * T, D] for packed rows.
Tensor hidden_states(Decoder& model, const Batch& batch) {
  if (!batch.starts.defined()) return model->hidden(batch.inputs);
  return model->hidden(batch.inputs.reshape({1, -1}), packed(batch.starts));
}

Answers answers_of(Decoder& model, const Batch& batch, bool each) {
  Answers answers;
  answers.where = batch.labels.reshape({-1}).ge(0).nonzero().squeeze(-1);
  answers.labels = answers.at_targets(batch.labels);
  const Tensor hidden = hidden_states(model, batch);
  answers.loss =
      target_loss(model, hidden.reshape({-1, hidden.size(-1)}).index_select(0, answers.where), answers.labels, each);
  return answers;
}

void add_slices(const Answers& answers, const Batch& batch, const Slicing& slicing) {
  const auto here = [&](const Tensor& x) { return x.defined() ? x.to(torch::kCPU) : x; };
  const Tensor losses = here(answers.loss.losses), wrong = here(answers.loss.wrong);
  const Tensor numbers = here(answers.at_targets(slicing.numbers)), bytes = here(answers.at_targets(batch.bytes)),
               surprisal = here(answers.at_targets(batch.surprisal));
  for (int64_t i = 0; i < numbers.numel(); ++i) {
    Score& score = (*slicing.scores)[numbers.data_ptr<int64_t>()[i]];
    ++score.targets;
    score.targets_right += 1 - wrong.data_ptr<int64_t>()[i];
    score.loss_sum += losses.data_ptr<float>()[i];
    if (bytes.defined()) score.bytes += bytes.data_ptr<int64_t>()[i];
    if (surprisal.defined()) score.surprisal_sum += surprisal.data_ptr<double>()[i];
  }
}

}  // namespace

Score score_batch(Decoder& model, const Batch& batch, Tensor* mean_loss, const std::vector<Slicing>& slicings) {
  const int64_t B = batch.labels.size(0), T = batch.labels.size(1);
  const Answers answers = answers_of(model, batch, /*each=*/!slicings.empty());
  const Tensor& loss = answers.loss.mean;
  if (mean_loss != nullptr) *mean_loss = loss;
  for (const Slicing& slicing : slicings) add_slices(answers, batch, slicing);

  const Tensor& wrong = answers.loss.wrong;
  const Tensor wrong_in_row = torch::zeros({B}, wrong.options()).index_add_(0, answers.where.div(T, "floor"), wrong);
  Score score;
  score.targets = answers.labels.numel();
  score.targets_right = score.targets - wrong.sum().item<int64_t>();
  score.sequences = B;
  score.sequences_right = B - wrong_in_row.ne(0).sum().item<int64_t>();
  score.loss_sum = loss.item<double>() * static_cast<double>(score.targets);
  if (batch.bytes.defined()) score.bytes = answers.at_targets(batch.bytes).sum().item<int64_t>();
  if (batch.surprisal.defined()) score.surprisal_sum = answers.at_targets(batch.surprisal).sum().item<double>();
  return score;
}

}  // namespace klab
