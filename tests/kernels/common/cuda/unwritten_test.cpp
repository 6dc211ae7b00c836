// SPDX-License-Identifier: Apache-2.0
// The check matrix fails if a kernel leaves an element of an output unwritten, or reads workspace that it has not
// written.
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "backend.h"
#include "core/check/matrix.h"
#include "kernels/common/cuda/cells.h"

namespace klab {
namespace {

using emulation::emulated_backend;
using namespace kernels::cuda;

// Runs a kernel and then restores what the first element of its output was before.
template <class Launch>
void leave_first_unwritten(const kernels::MutableRows& output, const Launch& launch) {
  const size_t bytes = output.dtype == kernels::Dtype::float32 ? 4 : 2;
  unsigned char before[4];
  std::memcpy(before, output.data, bytes);
  launch();
  std::memcpy(output.data, before, bytes);
}

Backend with_unwritten_outputs() {
  Backend backend = emulated_backend();
  backend.norm_forward = [](const kernels::NormProblem& problem, const kernels::MutableRows& y, void* stream) {
    leave_first_unwritten(y, [&] { emulated_backend().norm_forward(problem, y, stream); });
  };
  backend.recurrence_forward = [](const Problem& problem, const kernels::MutableRows& o, float* final_state,
                                  void* workspace, void* stream) {
    leave_first_unwritten(o,
                          [&] { emulated_backend().recurrence_forward(problem, o, final_state, workspace, stream); });
  };
  backend.recurrence_step = [](const Problem& problem, const kernels::MutableRows& o, float* final_state,
                               float* all_states, void* stream) {
    leave_first_unwritten(o, [&] { emulated_backend().recurrence_step(problem, o, final_state, all_states, stream); });
  };
  return backend;
}

Backend with_a_read_of_the_workspace() {
  Backend backend = emulated_backend();
  backend.norm_backward = [](const kernels::NormProblem& problem, const kernels::Rows& d_y,
                             const kernels::NormGradients& gradients, void* workspace, void* stream) {
    float read;
    std::memcpy(&read, workspace, sizeof read);
    emulated_backend().norm_backward(problem, d_y, gradients, workspace, stream);
    gradients.weight[0] += read;
  };
  return backend;
}

// The messages of the cells in bfloat16 and float32 of the quick workloads, "" for cells that pass.
std::vector<std::string> messages(const std::string& operator_name) {
  MatrixFilter filter{.operators = operator_name, .implementation = "cuda", .dtypes = {at::kFloat, at::kBFloat16}};
  filter.quick = filter.emulated_cuda = true;
  std::vector<std::string> all;
  for (const CheckRow& row : run_matrix(filter)) all.push_back(row.message);
  EXPECT_FALSE(all.empty());
  return all;
}

class UnwrittenMemory : public OnEmulatedDevice {};

TEST_F(UnwrittenMemory, AnUnwrittenElementOfAnOutputFailsTheCheck) {
  const Backend faulty = with_unwritten_outputs();
  use_backend(&faulty);
  for (const char* name : {"rms_norm", "recurrence/none/delta"}) {
    for (const std::string& message : messages(name)) {
      EXPECT_NE(message.find(": 1 elements are NaN"), std::string::npos) << name << ": '" << message << "'";
    }
  }
  use_backend(&emulated_backend());
  for (const std::string& message : messages("rms_norm")) EXPECT_EQ(message, "");
}

TEST_F(UnwrittenMemory, AReadOfTheUnwrittenWorkspaceFailsTheCheck) {
  const Backend faulty = with_a_read_of_the_workspace();
  use_backend(&faulty);
  for (const std::string& message : messages("rms_norm")) {
    EXPECT_NE(message.find("d_weight: 1 elements are NaN"), std::string::npos) << message;
  }
  use_backend(&emulated_backend());
}

TEST_F(UnwrittenMemory, TheFillEndsWithTheCheck) {
  messages("rms_norm");
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

}  // namespace
}  // namespace klab
