// What the operator tests share.
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

/// While one lives, the kernels have so many threads.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

/// The case of that name; throws when there is none.
const OperatorCase& operator_case(const std::string& name);

/// `tensors` with the entry of that name replaced, or added.
NamedTensors with(NamedTensors tensors, const std::string& name, const at::Tensor& tensor);

/// `tensors` without that entry.
NamedTensors without(NamedTensors tensors, const std::string& name);

/// Those that take tensors of the CPU: without CUDA's, which tests/kernels/cuda holds to the same.
std::vector<kernels::Implementation> on_cpu(std::vector<kernels::Implementation> implementations);

/// `operator_case.run` as a function of the inputs.
NamedFunction runner(const OperatorCase& operator_case, kernels::Implementation implementation);

/// Outputs and gradients under loss weights that depend only on `seed` and the outputs' shapes.
NamedTensors evaluate(const NamedFunction& function, const NamedTensors& inputs, uint64_t seed = 7);

/// A few roundings of float64, relative to the element and to the RMS.
inline Tolerance tight(double bound = 1e-12) { return {.of_element = bound, .of_rms = bound}; }

void expect_close(const std::string& what, const at::Tensor& actual, const at::Tensor& expected,
                  const Tolerance& tolerance);

/// Every entry of `expected`, by name.
void expect_close(const std::string& what, const NamedTensors& actual, const NamedTensors& expected,
                  const Tolerance& tolerance);

/// Expects that `function` throws c10::ValueError whose message begins with `op` and names `argument`.
void expect_refused(const std::string& op, const std::string& argument, const std::function<void()>& function);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace klab
