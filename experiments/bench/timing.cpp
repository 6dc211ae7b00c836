// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/timing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "core/base/interrupt.h"

namespace klab {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double median_seconds(const std::function<void()>& call, const at::Tensor& like, double budget) {
  using Clock = std::chrono::steady_clock;
  // item() synchronises with the device.
  const auto wait = [&] {
    if (like.is_cuda()) at::zeros({1}, like.options()).item();
  };
  const auto once = [&] {
    const Clock::time_point begin = Clock::now();
    call();
    wait();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  once();
  std::vector<double> times;
  for (double sum = 0; times.size() < 3 || sum < budget;) {
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while timing");
    times.push_back(once());
    sum += times.back();
  }
  return median(times);
}

}  // namespace klab
