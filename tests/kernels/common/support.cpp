// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/support.h"

#include <stdexcept>

namespace klab {
namespace {

// The tensors here are small, so on a busy machine threads would mostly wait for each other.
struct OneThread : testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};

const testing::Environment* const kOneThread = testing::AddGlobalTestEnvironment(new OneThread);

}  // namespace

const OperatorCase& operator_case(const std::string& name) {
  for (const OperatorCase& entry : operator_cases()) {
    if (entry.name == name) return entry;
  }
  throw std::out_of_range("no operator case '" + name + "'");
}

std::vector<kernels::Implementation> on_cpu(std::vector<kernels::Implementation> implementations) {
  std::erase(implementations, kernels::Implementation::cuda);
  return implementations;
}

NamedTensors without(NamedTensors tensors, const std::string& name) {
  std::erase_if(tensors, [&](const NamedTensor& entry) { return entry.name == name; });
  return tensors;
}

NamedTensors with(NamedTensors tensors, const std::string& name, const at::Tensor& tensor) {
  tensors = without(std::move(tensors), name);
  tensors.push_back({name, tensor});
  return tensors;
}

NamedFunction runner(const OperatorCase& operator_case, kernels::Implementation implementation) {
  return [run = operator_case.run, implementation](const NamedTensors& in) { return run(implementation, in); };
}

NamedTensors evaluate(const NamedFunction& function, const NamedTensors& inputs, uint64_t seed) {
  return forward_and_backward(function, inputs, loss_weights(forward(function, inputs), at::kDouble, seed));
}

void expect_close(const std::string& what, const at::Tensor& actual, const at::Tensor& expected,
                  const Tolerance& tolerance) {
  const Comparison comparison = compare(actual, expected, tolerance);
  EXPECT_TRUE(comparison.pass) << what << ": " << comparison.message;
}

void expect_close(const std::string& what, const NamedTensors& actual, const NamedTensors& expected,
                  const Tolerance& tolerance) {
  for (const auto& [name, tensor] : expected) {
    expect_close(what + ": " + name, find(actual, name), tensor, tolerance);
  }
}

void expect_refused(const std::string& op, const std::string& argument, const std::function<void()>& function) {
  try {
    function();
  } catch (const c10::ValueError& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_TRUE(message.starts_with(op + ": ")) << message;
    EXPECT_NE(message.find(argument), std::string::npos) << "does not name " << argument << ": " << message;
    return;
  }
  ADD_FAILURE() << op << " accepted a wrong " << argument;
}

}  // namespace klab
