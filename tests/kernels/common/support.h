// SPDX-License-Identifier: Apache-2.0
// Helpers of the operator tests.
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <limits>
#include <string>

#include "core/check/cases.h"
#include "core/check/compare.h"
#include "core/check/evaluate.h"
#include "core/check/tolerance.h"

namespace klab {

/// Sets the number of threads for its lifetime.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

/// The case of that name. Throws std::out_of_range for an unknown name.
const OperatorCase& operator_case(const std::string& name);

/// `tensors` with the entry of that name replaced or added.
NamedTensors with(NamedTensors tensors, const std::string& name, const at::Tensor& tensor);

/// `tensors` without that entry.
NamedTensors without(NamedTensors tensors, const std::string& name);

/// The implementations that run on CPU tensors, that is, without `cuda`, which has its own tests.
std::vector<kernels::Implementation> on_cpu(std::vector<kernels::Implementation> implementations);

/// `operator_case.run` as a function of the inputs.
NamedFunction runner(const OperatorCase& operator_case, kernels::Implementation implementation);

/// Outputs and gradients, for loss weights that depend only on `seed` and the outputs' shapes.
NamedTensors evaluate(const NamedFunction& function, const NamedTensors& inputs, uint64_t seed = 7);

/// A tolerance of a few float64 roundings, relative to the element and to the RMS.
inline Tolerance tight(double bound = 1e-12) { return {.of_element = bound, .of_rms = bound}; }

void expect_close(const std::string& what, const at::Tensor& actual, const at::Tensor& expected,
                  const Tolerance& tolerance);

/// Compares every entry of `expected` with the entry of the same name.
void expect_close(const std::string& what, const NamedTensors& actual, const NamedTensors& expected,
                  const Tolerance& tolerance);

/// Expects that `function` throws c10::ValueError whose message begins with `op` and names `argument`.
void expect_refused(const std::string& op, const std::string& argument, const std::function<void()>& function);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace klab
