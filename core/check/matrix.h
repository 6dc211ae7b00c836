// Every operator x implementation x dtype x workload against its definition in float64, forward and backward.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/check/cases.h"

namespace klab {

/// The dtypes of the matrix by their names in Python.
struct CheckedDtype {
  const char* name;
  at::ScalarType type;
};
constexpr CheckedDtype kCheckedDtypes[] = {
    {"float64", at::kDouble}, {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}};

/// Which part of the matrix to run. Empty strings and lists take everything.
struct MatrixFilter {
  std::string operators{};               ///< a part of the operator's name
  std::string implementation{};          ///< as to_string() names it
  std::vector<at::ScalarType> dtypes{};  ///< of float64, float32, bfloat16, float16
  bool quick = false;                    ///< only the workloads of the quick subset
  at::Device device = at::kCPU;          ///< where the implementations run; the definition runs on the CPU
};

/// One cell: the tensor, output or gradient ("d_k"), that uses most of what it is allowed.
struct CheckRow {
  std::string operator_name, implementation, dtype, workload;
  std::string tensor;  ///< empty when the operator threw
  double error = 0;    ///< the worst error in that tensor and what is allowed there
  double allowed = 0;
  double ratio = 0;            ///< the largest share of what is allowed, per element or by RMS; above 1 fails
  double relative_rms = 0;     ///< of that tensor
  std::vector<int64_t> index;  ///< of the worst error
  bool pass = false;
  std::string message;  ///< what failed, for every failing tensor; empty when all pass
};

/// Runs the cells one after another; `on_row` is called with each as it is finished. Cells that an implementation is
/// not made for (a CUDA kernel on the CPU or in float64) do not occur. An operator that throws is a failing row.
std::vector<CheckRow> run_matrix(const MatrixFilter& filter = {},
                                 const std::function<void(const CheckRow&)>& on_row = {});

/// One cell.
CheckRow check_cell(const OperatorCase& operator_case, const Form& form, at::ScalarType dtype, const Workload& workload,
                    at::Device device = at::kCPU);

}  // namespace klab
