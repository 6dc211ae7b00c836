// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rl_metrics.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/train/metrics_file.h"

namespace klab {
namespace {

const std::vector<std::string> kColumns = {"step",
                                           "split",
                                           "loss",
                                           "acc_tok",
                                           "acc_seq",
                                           "reward",
                                           "accuracy",
                                           "kl",
                                           "entropy",
                                           "length",
                                           "cut_off",
                                           "all_right",
                                           "all_equal",
                                           "ptx_loss",
                                           "lr",
                                           "grad_norm",
                                           "kl_weight",
                                           "updates",
                                           "ratio_clipped",
                                           "importance_mean",
                                           "importance_max",
                                           "importance_clipped",
                                           "effective_samples",
                                           "tokens_per_second",
                                           "rollout_tokens_per_second",
                                           "update_tokens_per_second",
                                           "rollout_share",
                                           "reward_share",
                                           "update_share",
                                           "seconds"};

std::string number(double x) { return fmt::format("{:.6g}", x); }
std::string count(double x) { return fmt::format("{:.0f}", x); }

}  // namespace

RlMetrics::RlMetrics(const RunFolder& folder, const std::vector<std::string>& provenance, const RlConfig& config,
                     bool resume, int64_t step)
    : has_ptx_(config.ptx_weight > 0),
      clips_(config.loss == "grpo"),
      file_(open_metrics(folder, provenance, kColumns, resume, step)) {}

// Columns without a cell are empty.
void RlMetrics::write(const std::vector<std::pair<std::string, std::string>>& cells) {
  std::vector<std::string> row(kColumns.size());
  for (const auto& [column, text] : cells) {
    row.at(static_cast<size_t>(std::find(kColumns.begin(), kColumns.end(), column) - kColumns.begin())) = text;
  }
  file_->row(row);
}

void RlMetrics::write_iteration(const RlStatus& status) {
  const IterationReport& report = status.iteration;
  const double seconds = report.seconds();
  write({{"step", fmt::format("{}", status.train.step)},
         {"split", "train"},
         {"loss", number(report.loss)},
         {"acc_seq", number(report.accuracy)},
         {"reward", number(report.reward)},
         {"accuracy", number(report.accuracy)},
         {"kl", number(report.kl)},
         {"entropy", number(report.entropy)},
         {"length", number(report.length)},
         {"cut_off", number(report.cut_off)},
         {"all_right", number(report.all_right)},
         {"all_equal", number(report.all_equal)},
         {"ptx_loss", has_ptx_ ? number(report.ptx_loss) : ""},
         {"lr", number(status.train.lr)},
         {"grad_norm", number(report.grad_norm)},
         {"kl_weight", number(report.kl_weight)},
         {"updates", fmt::format("{}", report.updates)},
         {"ratio_clipped", clips_ ? number(report.ratio_clipped) : ""},
         {"importance_mean", number(report.importance.mean)},
         {"importance_max", number(report.importance.largest_ratio)},
         {"importance_clipped", number(report.importance.clipped_share)},
         {"effective_samples", number(report.importance.effective_sample_size)},
         {"tokens_per_second", count(report.tokens_per_second())},
         {"rollout_tokens_per_second", count(report.rollout_tokens_per_second())},
         {"update_tokens_per_second", count(report.update_tokens_per_second())},
         {"rollout_share", number(report.rollout_seconds / seconds)},
         {"reward_share", number(report.reward_seconds / seconds)},
         {"update_share", number(report.update_seconds / seconds)},
         {"seconds", fmt::format("{:.2f}", status.train.seconds)}});
}

void RlMetrics::write_evaluation(int64_t step, const std::string& split, const RlEvaluation& evaluation,
                                 double seconds) {
  const Score& score = evaluation.score;
  const bool answered = evaluation.length > 0;  // not of supervised data
  write({{"step", fmt::format("{}", step)},
         {"split", split},
         {"loss", fmt::format("{:.6f}", score.loss())},
         {"acc_tok", fmt::format("{:.6f}", score.acc_tok())},
         {"acc_seq", fmt::format("{:.6f}", score.acc_seq())},
         {"accuracy", fmt::format("{:.6f}", score.acc_seq())},
         {"reward", answered ? fmt::format("{:.6f}", evaluation.reward) : ""},
         {"length", answered ? number(evaluation.length) : ""},
         {"seconds", fmt::format("{:.2f}", seconds)}});
}

}  // namespace klab
