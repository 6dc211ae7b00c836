// SPDX-License-Identifier: Apache-2.0
// The check matrix: every operator x implementation x dtype x workload against its float64 definition, forward and
// backward.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/check/cases.h"

namespace klab {

/// The dtypes of the matrix with their Python names.
struct CheckedDtype {
  const char* name;
  at::ScalarType type;
};
constexpr CheckedDtype kCheckedDtypes[] = {
    {"float64", at::kDouble}, {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};

/// Which part of the matrix to run. Empty strings and lists select everything.
struct MatrixFilter {
  std::string operators{};               ///< a substring of the operator's name
  std::string implementation{};          ///< as in to_string()
  std::vector<at::ScalarType> dtypes{};  ///< of float64, float32, bfloat16, float16
  bool quick = false;                    ///< only the workloads of the quick subset
  at::Device device = at::kCPU;          ///< where the implementations run; the definition runs on the CPU
  bool emulated_cuda = false;            ///< CUDA kernels run on CPU tensors, see kernels::cuda::use_backend()
};

/// The result of one cell, for the output or gradient ("d_k") with the largest ratio of error to allowed error.
struct CheckRow {
  std::string operator_name, implementation, dtype, workload;
  std::string tensor;  ///< empty if the operator threw
  double error = 0;    ///< the worst error in that tensor, and the allowed error there
  double allowed = 0;
  double ratio = 0;            ///< the larger of error / allowed, per element and by RMS; above 1 fails
  double relative_rms = 0;     ///< of that tensor
  std::vector<int64_t> index;  ///< of the worst error
  bool pass = false;
  std::string message;  ///< what failed, for every failing tensor; empty when all pass
};

/// Runs the cells in sequence and calls `on_row` after each. Cells that an implementation does not support (a CUDA
/// kernel on the CPU or in float64) are left out. An operator that throws is a failing row.
std::vector<CheckRow> run_matrix(const MatrixFilter& filter = {},
                                 const std::function<void(const CheckRow&)>& on_row = {});

/// Runs one cell.
CheckRow check_cell(const OperatorCase& operator_case, const Form& form, at::ScalarType dtype, const Workload& workload,
                    at::Device device = at::kCPU);

}  // namespace klab
