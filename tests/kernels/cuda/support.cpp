#include "support.h"

#include <algorithm>
#include <cctype>

#include "core/check/matrix.h"

namespace klab {
namespace {

int64_t launches_before = 0;

}  // namespace

OnEmulatedCuda::OnEmulatedCuda() {
  kernels::cuda::use_backend(&emulation::emulated_backend());
  launches_before = emulation::grids_run();
}

OnEmulatedCuda::~OnEmulatedCuda() {
  emulation::ignore_barrier(emulation::kNoBarrier);
  emulation::set_schedule(emulation::Schedule::ascending);
  kernels::cuda::use_backend(nullptr);
}

int64_t OnEmulatedCuda::emulated_launches() { return emulation::grids_run() - launches_before; }

void OnEmulatedCuda::expect_cells(const OperatorCase& op, at::ScalarType dtype, bool quick) {
  int cells = 0;
  for (const Form& form : op.forms) {
    if (form.implementation != kernels::Implementation::cuda) continue;
    for (const Workload& workload : op.workloads) {
      if (quick && !workload.quick) continue;
      const CheckRow row = check_cell(op, form, dtype, workload, at::kCPU);
      EXPECT_TRUE(row.pass) << op.name << ", " << row.dtype << ", " << workload.name << ": " << row.message;
      ++cells;
    }
  }
  EXPECT_GT(cells, 0) << op.name << " has no CUDA form";
}

std::string name_of_case(const testing::TestParamInfo<const OperatorCase*>& info) {
  std::string name = info.param->name;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

}  // namespace klab
