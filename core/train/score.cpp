// SPDX-License-Identifier: Apache-2.0
#include "core/train/score.h"

#include <torch/nn/module.h>

#include "core/model/context_part.h"
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

std::vector<Score> gather_scores(RankGroup& ranks, const std::vector<Score>& own) {
  if (ranks.alone()) return own;
  std::vector<double> numbers;  // counts are exact up to 2^53
  for (const Score& score : own) {
    Score::each_field(score, [&](const char*, const auto& field) { numbers.push_back(static_cast<double>(field)); });
  }
  const Tensor gathered = ranks.gather(torch::tensor(numbers, torch::kDouble));
  const double* next = gathered.data_ptr<double>();
  std::vector<Score> all(own.size() * static_cast<size_t>(ranks.size()));
  for (Score& score : all) {
    Score::each_field(score,
                      [&](const char*, auto& field) { field = static_cast<std::decay_t<decltype(field)>>(*next++); });
  }
  return all;
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
  if (batch.part) return model->hidden(batch.inputs, sequences_of(batch.part, batch.inputs.device()));
  if (!batch.starts.defined()) return model->hidden(batch.inputs);
  return model->hidden(batch.inputs.reshape({1, -1}), packed(batch.starts));
}

Answers answers_of(Decoder& model, const Batch& batch, bool each) {
  Answers answers;
  answers.where = batch.labels.reshape({-1}).ge(0).nonzero().squeeze(-1);
  answers.labels = answers.at_targets(batch.labels);
  const Tensor hidden = hidden_states(model, batch);
  if (answers.labels.numel() == 0) {  // the other ranks of a part wait in the backward pass too
    answers.loss = {hidden.narrow(-1, 0, 0).sum(), {}, torch::zeros({0}, answers.labels.options())};
    return answers;
  }
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

// Sequences, and those with every target right. Of rows that are cut over ranks the first rank counts all.
void count_sequences(const Answers& answers, const Batch& batch, Score& score) {
  const Tensor& wrong = answers.loss.wrong;
  const int64_t T = batch.part ? batch.row_length : batch.labels.size(1);
  const int64_t B = batch.part ? batch.part->offsets.back() / T : batch.labels.size(0);
  const Tensor row = (batch.part ? answers.where + batch.part->begin() : answers.where).div(T, "floor");
  Tensor wrong_in_row = torch::zeros({B}, wrong.options()).index_add_(0, row, wrong);
  if (batch.part) wrong_in_row = batch.part->ranks->sum(wrong_in_row);
  if (batch.part && !batch.part->ranks->first()) return;
  score.sequences = B;
  score.sequences_right = B - wrong_in_row.ne(0).sum().item<int64_t>();
}

}  // namespace

Batch part_of(const Batch& batch, const std::shared_ptr<RankGroup>& context) {
  const int64_t tokens = batch.inputs.numel(), length = batch.inputs.size(1);
  const Tensor boundaries = batch.starts.defined() ? packed(batch.starts).cu_seqlens.cpu()
                                                   : torch::arange(0, tokens + 1, length, torch::kLong);
  const auto* offsets = boundaries.data_ptr<int64_t>();
  const auto part = context_part(context, {offsets, offsets + boundaries.numel()});
  const int64_t begin = part->begin(), own = part->end() - begin;
  Batch here = batch.map([&](const Tensor& x) { return x.reshape({1, -1}).narrow(1, begin, own); });
  here.part = part;
  here.row_length = length;
  return here;
}

Score score_batch(Decoder& model, const Batch& batch, Tensor* mean_loss, const std::vector<Slicing>& slicings) {
  const Answers answers = answers_of(model, batch, /*each=*/!slicings.empty());
  const Tensor& loss = answers.loss.mean;
  if (mean_loss != nullptr) *mean_loss = loss;
  for (const Slicing& slicing : slicings) add_slices(answers, batch, slicing);

  Score score;
  score.targets = answers.labels.numel();
  score.targets_right = score.targets - answers.loss.wrong.sum().item<int64_t>();
  count_sequences(answers, batch, score);
  score.loss_sum = loss.item<double>() * static_cast<double>(score.targets);
  if (batch.bytes.defined()) score.bytes = answers.at_targets(batch.bytes).sum().item<int64_t>();
  if (batch.surprisal.defined()) score.surprisal_sum = answers.at_targets(batch.surprisal).sum().item<double>();
  return score;
}

}  // namespace klab
