// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/cuda/cells.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <stdexcept>

#include "backend.h"

namespace klab {
namespace {

using emulation::Schedule;
using kernels::Implementation;

constexpr at::ScalarType kKernelDtypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

// Call only on an emulated device: operator_cases() lists the implementations of the backend at its first call.
const OperatorCase& case_of(const std::string& name) {
  for (const OperatorCase& entry : operator_cases()) {
    if (entry.name == name) return entry;
  }
  throw std::out_of_range("no operator case '" + name + "'");
}

const Form& cuda_form(const OperatorCase& op) {
  for (const Form& form : op.forms) {
    if (form.implementation == Implementation::cuda) return form;
  }
  throw std::out_of_range(op.name + " has no CUDA form");
}

void expect_cell_to_hold(const OperatorCase& op, at::ScalarType dtype, const Workload& workload) {
  const CheckRow row = check_cell(op, cuda_form(op), dtype, workload);
  EXPECT_TRUE(row.pass) << op.name << ", " << row.dtype << ", " << workload.name << ": " << row.message;
}

}  // namespace

EmulatedDevice::EmulatedDevice(Schedule schedule) {
  kernels::cuda::use_backend(&emulation::emulated_backend());
  emulation::set_schedule(schedule);
}

EmulatedDevice::~EmulatedDevice() {
  emulation::ignore_barrier(emulation::kNoBarrier);
  emulation::set_schedule(Schedule::ascending);
  kernels::cuda::use_backend(nullptr);
}

void expect_cells_to_hold(const OperatorCase& op, at::ScalarType dtype, bool quick) {
  for (const Workload& workload : op.workloads) {
    if (!quick || workload.quick) expect_cell_to_hold(op, dtype, workload);
  }
}

void expect_cells_to_hold(const std::string& operator_name) {
  const EmulatedDevice device;
  const OperatorCase& op = case_of(operator_name);
  for (const Workload& workload : op.workloads) {
    for (const at::ScalarType dtype : kKernelDtypes) {
      if (!workload.quick && dtype == at::kHalf) continue;
      expect_cell_to_hold(op, dtype, workload);
      if (!workload.quick) continue;
      const testing::ScopedTrace trace(__FILE__, __LINE__, "descending");
      emulation::set_schedule(Schedule::descending);
      expect_cell_to_hold(op, dtype, workload);
      emulation::set_schedule(Schedule::ascending);
    }
  }
}

void expect_cells_to_hold(const std::string& operator_name, const std::vector<Workload>& workloads) {
  const EmulatedDevice device;
  for (const Workload& workload : workloads) {
    for (const at::ScalarType dtype : kKernelDtypes) expect_cell_to_hold(case_of(operator_name), dtype, workload);
  }
}

void expect_barriers_to_matter(const std::string& operator_name, const Workload& workload) {
  const EmulatedDevice device;
  const OperatorCase& op = case_of(operator_name);
  EXPECT_TRUE(check_cell(op, cuda_form(op), at::kFloat, workload).pass);
  emulation::ignore_barrier(0);
  EXPECT_FALSE(check_cell(op, cuda_form(op), at::kFloat, workload).pass);
}

}  // namespace klab
