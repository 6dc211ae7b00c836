// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/training.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string_view>
#include <vector>

#include "core/model/accounting.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLength = 256, kWarmUp = 5;

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string category_of(std::string_view name) {
  if (contains(name, "recurrence")) return "recurrence";
  if (name.starts_with("klab::")) return contains(name, "linear") ? "products" : "other klab operators";
  for (const char* product : {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}) {
    if (name == product) return "products";
  }
  if (name.starts_with("mkldnn::")) return "products";
  for (const char* optimiser : {"_fused_adamw", "_foreach", "linalg_vector_norm", "clip"}) {
    if (contains(name, optimiser)) return "optimiser";
  }
  for (const char* elementwise : {"aten::mul", "aten::add", "aten::sub", "aten::div", "aten::silu", "aten::sigmoid",
                                  "aten::copy_", "aten::fill_", "aten::zero_", "aten::neg", "aten::exp", "aten::sum"}) {
    if (name.starts_with(elementwise)) return "elementwise";
  }
  return "other ATen";
}

// The time of operators on this thread, each without those that it calls.
class OperatorTimes {
 public:
  OperatorTimes() : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(begin, end))) { active() = this; }
  OperatorTimes(const OperatorTimes&) = delete;
  OperatorTimes& operator=(const OperatorTimes&) = delete;
  ~OperatorTimes() {
    at::removeCallback(handle_);
    active() = nullptr;
  }

  std::map<std::string, double> seconds() const { return seconds_; }

 private:
  struct Open {
    Clock::time_point since;
    double inside = 0;  // of the operators that it called
  };

  static OperatorTimes*& active() {
    thread_local OperatorTimes* times = nullptr;
    return times;
  }

  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction&) {
    active()->open_.push_back({Clock::now()});
    return nullptr;
  }

  static void end(const at::RecordFunction& function, at::ObserverContext*) {
    OperatorTimes& times = *active();
    const Open one = times.open_.back();
    times.open_.pop_back();
    const double all = seconds_between(one.since, Clock::now());
    // Autograd's own functions only wait for the operators that they call.
    const std::string_view name = function.name();
    const bool is_operator = contains(name, "::") && !name.starts_with("autograd::");
    if (is_operator) times.seconds_[category_of(name)] += all - one.inside;
    if (times.open_.empty()) return;
    times.open_.back().inside += is_operator ? all : one.inside;
  }

  at::CallbackHandle handle_;
  std::vector<Open> open_;
  std::map<std::string, double> seconds_;
};

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

RunConfig config_of(const std::string& mixer, int64_t width, int64_t tokens) {
  return make_run_config({{"task.name", "mqar", ""},
                          {"task.length", kLength, ""},
                          {"task.vocab", 2 * kLength / 4, ""},
                          {"model.pattern", mixer, ""},
                          {"model.layers", 2, ""},
                          {"model.width", width, ""},
                          {"model.heads", std::max<int64_t>(1, width / 32), ""},
                          {"model.head_dim", std::min<int64_t>(32, width), ""},
                          {"train.steps", 1'000'000, ""},
                          {"train.batch", std::max<int64_t>(1, tokens / kLength), ""},
                          {"train.eval_every", 1'000'000, ""},
                          {"train.eval_examples", 1, ""}});
}

}  // namespace

TrainingSpeed measure_training(const std::string& mixer, int64_t width, int64_t tokens, double seconds) {
  const RunConfig config = config_of(mixer, width, tokens);
  Trainer trainer = make_trainer(config, {}, {}, /*resume=*/false, torch::kCPU);
  TrainingSpeed speed;
  speed.product_flops = product_flops();
  std::vector<Clock::time_point> ends;
  std::unique_ptr<OperatorTimes> times;
  trainer.run([&](const TrainStatus& status, bool) {
    if (status.step == kWarmUp) times = std::make_unique<OperatorTimes>();
    if (status.step >= kWarmUp) ends.push_back(Clock::now());
    const bool enough = ends.size() > 3 && seconds_between(ends.front(), ends.back()) > seconds;
    return enough ? Next::stop : Next::step;
  });
  std::vector<double> steps;
  for (size_t i = 1; i < ends.size(); ++i) steps.push_back(seconds_between(ends[i - 1], ends[i]));
  std::nth_element(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2), steps.end());
  const double median = steps[steps.size() / 2], all = seconds_between(ends.front(), ends.back());
  speed.product_flops = std::max(speed.product_flops, product_flops());
  speed.milliseconds = 1e3 * median;
  speed.tokens_per_second = static_cast<double>(config.train.batch * kLength) / median;
  speed.flops = 3 * account(trainer.model(), kLength).prefill_flops * static_cast<double>(config.train.batch);
  double inside = 0;
  for (const auto& [category, spent] : times->seconds()) {
    speed.shares[category] = spent / all;
    inside += spent;
  }
  speed.shares["outside of operators"] = 1 - inside / all;
  return speed;
}

}  // namespace klab
