// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/training.h"

#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "core/model/accounting.h"
#include "experiments/bench/timing.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLanguageVocabulary = 256, kLanguageMarks = 7;  // the task adds brackets, <push>, <pop>, <start>

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

double product_flops() {
  constexpr int64_t kSide = 1024;
  const at::Tensor a = at::ones({kSide, kSide}), b = at::ones({kSide, kSide});
  double best = 0;
  for (int i = 0; i < 10; ++i) {
    const Clock::time_point start = Clock::now();
    at::mm(a, b);
    best = std::max(best, 2.0 * kSide * kSide * kSide / seconds_between(start, Clock::now()));
  }
  return best;
}

// The steps of a trainer after the warm-up.
struct Steps {
  std::vector<double> seconds;
  double all = 0, waiting = 0;  // waiting: for data
  OperatorTimes operators;
};

std::unique_ptr<Steps> time_steps(Trainer& trainer, double budget) {
  constexpr int64_t kLeast = 3;
  const Clock::time_point begin = Clock::now();
  std::unique_ptr<Steps> steps;
  Clock::time_point last;
  double waited_before = 0;
  trainer.run([&](const TrainStatus& status, bool) {
    const Clock::time_point now = Clock::now();
    const double waited = status.wait_share * status.seconds;
    // Five steps to warm up, or fewer if one takes long.
    const bool warm = status.step >= 5 || (status.step >= 2 && seconds_between(begin, now) > budget / 2);
    if (!steps && warm) {
      steps = std::make_unique<Steps>();
      waited_before = waited;
    } else if (steps) {
      steps->seconds.push_back(seconds_between(last, now));
      steps->all += steps->seconds.back();
      steps->waiting = waited - waited_before;
      steps->operators.end_step();
    }
    const bool enough = steps && steps->all > budget && static_cast<int64_t>(steps->seconds.size()) >= kLeast;
    last = Clock::now();
    return enough ? Next::stop : Next::step;
  });
  return steps;
}

void add_shares(const Steps& steps, TrainingSpeed& speed) {
  for (const std::string& category : time_categories()) speed.shares[category] = 0;
  const auto steps_timed = static_cast<int64_t>(steps.seconds.size());
  speed.operators = steps.operators.slowest_first(steps_timed);
  double known = speed.shares["data"] = steps.waiting / steps.all;
  for (const OperatorTime& one : speed.operators) {
    const double share = 1e-3 * one.milliseconds * static_cast<double>(steps_timed) / steps.all;
    speed.shares[one.category] += share;
    known += share;
  }
  speed.shares["outside of operators"] = 1 - known;
}

}  // namespace

std::vector<Assignment> model_keys(const std::vector<std::string>& pattern, int64_t layers, int64_t width,
                                   int64_t head_dim) {
  return {{"model.pattern", std::vector<Value>(pattern.begin(), pattern.end()), ""},
          {"model.layers", layers, ""},
          {"model.width", width, ""},
          {"model.heads", std::max<int64_t>(1, width / head_dim), ""},
          {"model.head_dim", std::min(head_dim, width), ""}};
}

RunConfig TrainingWorkload::config() const {
  const bool language = task == "language";
  std::vector<Assignment> keys = model_keys(pattern, layers, width, head_dim);
  keys.insert(keys.end(), {{"task.name", task, ""},
                           {"task.length", length, ""},
                           {"task.vocab", language ? kLanguageVocabulary - kLanguageMarks : 2 * length / 4, ""},
                           {"train.steps", 1'000'000, ""},
                           {"train.batch", std::max<int64_t>(1, tokens / length), ""},
                           {"train.eval_every", 1'000'000, ""},
                           {"train.eval_examples", 1, ""},
                           {"train.dtype", dtype, ""}});
  return make_run_config(keys);
}

TrainingSpeed measure_training(const TrainingWorkload& workload, double seconds) {
  const RunConfig config = workload.config();
  Trainer trainer = make_trainer(config, {}, {}, /*resume=*/false, torch::kCPU);
  TrainingSpeed speed;
  speed.product_flops = product_flops();
  const std::unique_ptr<Steps> steps = time_steps(trainer, seconds);
  speed.product_flops = std::max(speed.product_flops, product_flops());
  const double step = median(steps->seconds), sequences = static_cast<double>(config.train.batch);
  speed.milliseconds = 1e3 * step;
  speed.tokens_per_second = sequences * static_cast<double>(workload.length) / step;
  speed.flops = 3 * account(trainer.model(), workload.length).prefill_flops * sequences;
  add_shares(*steps, speed);
  return speed;
}

}  // namespace klab
