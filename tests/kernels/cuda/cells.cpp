#include "cells.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

#include "backend.h"
#include "core/check/matrix.h"
#include "emulation.h"

namespace klab {
namespace {

using kernels::Implementation;

// The emulated device in place of a real one.
class Emulated {
 public:
  Emulated() { kernels::cuda::use_backend(&emulation::emulated_backend()); }
  ~Emulated() {
    emulation::ignore_barrier(-1);
    emulation::set_schedule(emulation::Schedule::ascending);
    kernels::cuda::use_backend(nullptr);
  }
  Emulated(const Emulated&) = delete;
  Emulated& operator=(const Emulated&) = delete;
};

// Of the forms that a backend has, CUDA's is the one that is there whichever backend was in use when the list was made.
Form cuda_form(const OperatorCase& op) {
  for (const Form& form : op.forms) {
    if (form.implementation == Implementation::cuda) return form;
  }
  ADD_FAILURE() << op.name << " has no CUDA form";
  return {Implementation::cuda};
}

void for_each_cell(const std::string& prefix, const std::function<void(const CheckRow&)>& see) {
  for (const OperatorCase& op : operator_cases()) {
    if (!op.name.starts_with(prefix)) continue;
    const Form form = cuda_form(op);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const Workload& workload : op.workloads) see(check_cell(op, form, type, workload));
    }
  }
}

}  // namespace

void expect_cells_to_hold(const std::string& prefix) {
  const Emulated device;
  for (const auto schedule : {emulation::Schedule::ascending, emulation::Schedule::descending}) {
    emulation::set_schedule(schedule);
    int cells = 0;
    for_each_cell(prefix, [&](const CheckRow& row) {
      ++cells;
      EXPECT_TRUE(row.pass) << row.operator_name << " " << row.dtype << " " << row.workload << " schedule "
                            << static_cast<int>(schedule) << "\n"
                            << row.message;
    });
    EXPECT_GT(cells, 0);
  }
}

int count_failures_without_barrier(const std::string& prefix) {
  const Emulated device;
  emulation::ignore_barrier(0);
  int failures = 0;
  for_each_cell(prefix, [&](const CheckRow& row) { failures += row.pass ? 0 : 1; });
  return failures;
}

}  // namespace klab
