// SPDX-License-Identifier: Apache-2.0
// Where the time of training steps goes: by operator and by part of the step.
#pragma once

#include <ATen/record_function.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace klab {

/// Parts of a training step. The loss begins after the last norm of the forward pass and ends where the backward pass
/// reaches that norm; the optimiser (clipping, update) follows the last node of the backward pass.
enum class StepPart { model, loss, optimiser };

/// An operator's call in a step: its time without that of the operators that it called.
struct OperatorCall {
  std::string name;
  double seconds;
  bool backward;  ///< called by a node of the backward pass
};

/// The part of every call of one step, given in the order in which the calls ended.
std::vector<StepPart> parts_of(const std::vector<OperatorCall>& step);

/// The categories of shares, in the order of tables.
const std::vector<std::string>& time_categories();

/// The category of an operator: matrix products are "products" in the head too, everything else of the loss is "loss",
/// and everything after the backward pass is "optimiser".
std::string category_of(StepPart part, std::string_view name);

/// The time of an operator per step, without that of the operators that it calls.
struct OperatorTime {
  std::string category, name;
  double milliseconds;
};

/// Observes the operators that this thread calls, autograd's included.
class OperatorTimes {
 public:
  OperatorTimes();
  OperatorTimes(const OperatorTimes&) = delete;
  OperatorTimes& operator=(const OperatorTimes&) = delete;
  ~OperatorTimes();

  /// Ends a step: what was called since the last one belongs to it.
  void end_step();

  /// Seconds of all steps by part and operator.
  const std::map<std::pair<StepPart, std::string>, double>& seconds() const { return seconds_; }

  /// Every part's operators, of one of `steps` steps, the slowest first.
  std::vector<OperatorTime> slowest_first(int64_t steps) const;

 private:
  struct Open {
    std::chrono::steady_clock::time_point since;
    double inside = 0;  // of the operators that it called
  };

  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function);
  static void end(const at::RecordFunction& function, at::ObserverContext*);
  void close(const at::RecordFunction& function);

  at::CallbackHandle handle_;
  std::vector<Open> open_;
  int64_t nodes_ = 0;  // open nodes of the backward pass
  std::vector<OperatorCall> step_;
  std::map<std::pair<StepPart, std::string>, double> seconds_;
};

}  // namespace klab
