// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/operator_times.h"

#include <algorithm>
#include <array>
#include <memory>

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

// Every RMSNorm is an operator of this name, with a gate or without.
constexpr const char *kNorm = "klab::gated_rms_norm", *kNormBackward = "klab::gated_rms_norm_backward";

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

template <size_t N>
bool starts_with_any(std::string_view name, const std::array<std::string_view, N>& beginnings) {
  return std::any_of(beginnings.begin(), beginnings.end(), [&](auto beginning) { return name.starts_with(beginning); });
}

bool is_product(std::string_view name) {
  constexpr std::array<std::string_view, 4> kProducts{"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"};
  return std::find(kProducts.begin(), kProducts.end(), name) != kProducts.end() || name.starts_with("mkldnn::") ||
         (name.starts_with("klab::") && contains(name, "linear"));
}

bool is_elementwise(std::string_view name) {
  constexpr std::array<std::string_view, 12> kElementwise{"aten::mul",   "aten::add",     "aten::sub",   "aten::div",
                                                          "aten::silu",  "aten::sigmoid", "aten::copy_", "aten::fill_",
                                                          "aten::zero_", "aten::neg",     "aten::exp",   "aten::sum"};
  return starts_with_any(name, kElementwise);
}

OperatorTimes*& active() {
  thread_local OperatorTimes* times = nullptr;
  return times;
}

}  // namespace

const std::vector<std::string>& time_categories() {
  static const std::vector<std::string> all = {
      "products", "recurrence", "attention", "other klab operators", "elementwise",
      "loss",     "optimiser",  "data",      "other ATen",           "outside of operators"};
  return all;
}

std::string category_of(StepPart part, std::string_view name) {
  if (part == StepPart::optimiser) return "optimiser";
  if (is_product(name)) return "products";
  if (part == StepPart::loss) return "loss";
  if (contains(name, "recurrence")) return "recurrence";
  if (contains(name, "attention")) return "attention";
  if (name.starts_with("klab::")) return "other klab operators";
  return is_elementwise(name) ? "elementwise" : "other ATen";
}

std::vector<StepPart> parts_of(const std::vector<OperatorCall>& step) {
  const auto first = [](auto begin, auto end, auto is) { return std::find_if(begin, end, is); };
  const auto backward = first(step.begin(), step.end(), [](const auto& call) { return call.backward; });
  const auto norm =
      first(std::make_reverse_iterator(backward), step.rend(), [](const auto& call) { return call.name == kNorm; });
  const auto norm_again = first(backward, step.end(), [](const auto& call) { return call.name == kNormBackward; });
  const auto last = first(step.rbegin(), step.rend(), [](const auto& call) { return call.backward; });
  std::vector<StepPart> parts(step.size(), StepPart::model);
  const auto at = [&](auto call) { return parts.begin() + (call - step.begin()); };
  if (norm != step.rend() && norm_again != step.end()) {
    std::fill(at(norm.base()), at(norm_again), StepPart::loss);
  }
  if (last != step.rend()) std::fill(at(last.base()), parts.end(), StepPart::optimiser);
  return parts;
}

OperatorTimes::OperatorTimes() : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(begin, end))) {
  active() = this;
}

OperatorTimes::~OperatorTimes() {
  at::removeCallback(handle_);
  active() = nullptr;
}

std::unique_ptr<at::ObserverContext> OperatorTimes::begin(const at::RecordFunction& function) {
  active()->nodes_ += function.scope() == at::RecordScope::BACKWARD_FUNCTION;
  active()->open_.push_back({Clock::now()});
  return nullptr;
}

void OperatorTimes::end(const at::RecordFunction& function, at::ObserverContext*) { active()->close(function); }

void OperatorTimes::close(const at::RecordFunction& function) {
  const Open one = open_.back();
  open_.pop_back();
  const double all = std::chrono::duration<double>(Clock::now() - one.since).count();
  // Autograd's own functions only wait for the operators that they call.
  const std::string_view name = function.name();
  const bool is_operator = contains(name, "::") && !contains(name, "autograd::");
  if (is_operator) step_.push_back({std::string(name), all - one.inside, nodes_ > 0});
  nodes_ -= function.scope() == at::RecordScope::BACKWARD_FUNCTION;
  if (!open_.empty()) open_.back().inside += is_operator ? all : one.inside;
}

void OperatorTimes::end_step() {
  const std::vector<StepPart> parts = parts_of(step_);
  for (size_t i = 0; i < step_.size(); ++i) seconds_[{parts[i], step_[i].name}] += step_[i].seconds;
  step_.clear();
}

std::vector<OperatorTime> OperatorTimes::slowest_first(int64_t steps) const {
  std::vector<OperatorTime> all;
  for (const auto& [call, seconds] : seconds_) {
    all.push_back({category_of(call.first, call.second), call.second, 1e3 * seconds / static_cast<double>(steps)});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.milliseconds > b.milliseconds; });
  return all;
}

}  // namespace klab
