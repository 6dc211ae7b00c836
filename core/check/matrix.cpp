// SPDX-License-Identifier: Apache-2.0
#include "core/check/matrix.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <optional>

#include "core/check/compare.h"
#include "core/check/evaluate.h"
#include "core/check/tolerance.h"

namespace klab {
namespace {

using at::Tensor;

constexpr uint64_t kSeed = 42;

// A copy surrounded by NaN, so that out-of-bounds reads show up in the result.
Tensor guarded(const Tensor& x) {
  if (!x.is_floating_point()) return x;
  constexpr int64_t kGuard = 64;
  const Tensor buffer = at::full({x.numel() + 2 * kGuard}, std::numeric_limits<double>::quiet_NaN(), x.options());
  return buffer.narrow(0, kGuard, x.numel()).view(x.sizes()).copy_(x);
}

// For its lifetime at::empty() fills tensors, in operators too: floating ones with NaN, bytes (workspaces) with 0xff,
// which is NaN as well. So an element that should have been written shows up. This is a feature of ATen's deterministic
// mode, which for some operators of ATen also selects other algorithms.
class PoisonedMemory {
 public:
  PoisonedMemory()
      : deterministic_(at::globalContext().deterministicAlgorithms()),
        only_warns_(at::globalContext().deterministicAlgorithmsWarnOnly()),
        fills_(at::globalContext().deterministicFillUninitializedMemory()) {
    set(true, true, true);
  }
  ~PoisonedMemory() { set(deterministic_, only_warns_, fills_); }
  PoisonedMemory(const PoisonedMemory&) = delete;
  PoisonedMemory& operator=(const PoisonedMemory&) = delete;

 private:
  static void set(bool deterministic, bool only_warns, bool fills) {
    at::globalContext().setDeterministicAlgorithms(deterministic, only_warns);
    at::globalContext().setDeterministicFillUninitializedMemory(fills);
  }

  bool deterministic_, only_warns_, fills_;
};

// Runs on one thread. The token-by-token definitions are thousands of operations on small tensors, which threads cannot
// speed up; on a busy machine synchronisation would take a hundred times longer than the work.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

struct Cell {
  const OperatorCase& operator_case;
  const Form& form;
  at::ScalarType dtype;
  const Workload& workload;
  at::Device device;
};

bool has_backward(const Cell& cell) {
  const Form& form = cell.form;
  return form.differentiable && (!form.has_backward || form.has_backward(cell.dtype, cell.workload));
}

Tolerance allowed_for(const Cell& cell, const std::string& tensor, int64_t elements) {
  Arithmetic arithmetic;
  arithmetic.sums = cell.operator_case.sums_in_own_dtype ? cell.dtype : accumulation_type(cell.dtype);
  arithmetic.result = dtype_in(cell.operator_case, tensor, cell.dtype);
  if (cell.form.narrow_operands && cell.dtype != at::kFloat) arithmetic.operands = cell.dtype;
  arithmetic.amplification = cell.operator_case.amplification;
  arithmetic.terms = cell.operator_case.terms(cell.workload, tensor);
  arithmetic.gradient = tensor.starts_with("d_");
  arithmetic.elements = elements;
  return derived_tolerance(arithmetic);
}

void record(CheckRow& row, const std::string& tensor, const Comparison& comparison) {
  if (!comparison.pass) row.message += (row.message.empty() ? "" : "\n") + tensor + ": " + comparison.message;
  row.pass = row.pass && comparison.pass;
  if (!row.tensor.empty() && comparison.ratio <= row.ratio) return;
  row.tensor = tensor;
  row.error = comparison.error;
  row.allowed = comparison.allowed;
  row.ratio = comparison.ratio;
  row.relative_rms = comparison.relative_rms;
  row.index = comparison.index;
}

void fill(CheckRow& row, const Cell& cell) {
  const OperatorCase& op = cell.operator_case;
  // Both get the same inputs, rounded to the dtype.
  NamedTensors inputs = copy_as(op, op.inputs(cell.workload, kSeed), cell.dtype, cell.device);
  const NamedTensors exact_inputs = copy_as(op, inputs, at::kDouble, at::kCPU);
  for (NamedTensor& input : inputs) input.tensor = guarded(input.tensor);

  const auto evaluate = [&](const NamedFunction& function, const NamedTensors& in, const NamedTensors& weights) {
    return has_backward(cell) ? forward_and_backward(function, in, weights) : forward(function, in);
  };
  NamedTensors weights, expected;
  {
    const OneThread one_thread;
    weights = loss_weights(forward(op.definition, exact_inputs), cell.dtype, kSeed + 1);
    expected = evaluate(op.definition, exact_inputs, weights);
  }
  const auto run = [&](const NamedTensors& in) { return op.run(cell.form.implementation, in); };
  std::optional<OneThread> one_thread;
  if (cell.form.implementation == kernels::Implementation::reference) one_thread.emplace();
  const NamedTensors actual = [&] {
    const PoisonedMemory poisoned;
    return evaluate(run, inputs, weights);
  }();

  row.pass = true;
  for (const auto& [name, tensor] : expected) {
    record(row, name, compare(find(actual, name), tensor, allowed_for(cell, name, tensor.numel())));
  }
}

}  // namespace

CheckRow check_cell(const OperatorCase& operator_case, const Form& form, at::ScalarType dtype, const Workload& workload,
                    at::Device device) {
  CheckRow row;
  row.operator_name = operator_case.name;
  row.implementation = kernels::to_string(form.implementation);
  for (const CheckedDtype& known : kCheckedDtypes) {
    if (known.type == dtype) row.dtype = known.name;
  }
  row.workload = workload.name;
  const auto threw = [&](const std::string& message) {
    row.pass = false;
    row.ratio = std::numeric_limits<double>::infinity();
    row.message = message;
  };
  try {
    fill(row, {operator_case, form, dtype, workload, device});
  } catch (const c10::Error& error) {
    threw(error.what_without_backtrace());
  } catch (const std::exception& error) {
    threw(error.what());
  }
  return row;
}

std::vector<CheckRow> run_matrix(const MatrixFilter& filter, const std::function<void(const CheckRow&)>& on_row) {
  std::vector<CheckRow> rows;
  const auto is_selected = [&](at::ScalarType dtype) {
    return filter.dtypes.empty() || std::find(filter.dtypes.begin(), filter.dtypes.end(), dtype) != filter.dtypes.end();
  };
  for (const OperatorCase& operator_case : operator_cases()) {
    if (operator_case.name.find(filter.operators) == std::string::npos) continue;
    for (const Form& form : operator_case.forms) {
      const std::string implementation = kernels::to_string(form.implementation);
      if (!filter.implementation.empty() && filter.implementation != implementation) continue;
      if (filter.device.is_cpu() && !form.on_cpu && !filter.emulated_cuda) continue;
      for (const CheckedDtype& checked : kCheckedDtypes) {
        const at::ScalarType dtype = checked.type;
        if (!is_selected(dtype)) continue;
        if (dtype == at::kDouble && (!form.in_float64 || form.is_definition)) continue;
        for (const Workload& workload : operator_case.workloads) {
          if (filter.quick && !workload.quick) continue;
          rows.push_back(check_cell(operator_case, form, dtype, workload, filter.device));
          if (on_row) on_row(rows.back());
        }
      }
    }
  }
  return rows;
}

}  // namespace klab
