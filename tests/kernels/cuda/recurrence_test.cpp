// The CUDA kernels of the recurrence, emulated on the host: the check matrix, under several schedules, and what a missing
// barrier does.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "backend.h"
#include "core/check/matrix.h"
#include "emulation.h"
#include "kernels/recurrence.h"

namespace klab {
namespace {

TEST(Cuda, Try) {
  kernels::cuda::use_backend(&emulation::emulated_backend());
  double total = 0;
  for (const OperatorCase& op : operator_cases()) {
    if (!op.name.starts_with("recurrence")) continue;
    for (Form form : op.forms) {
      if (form.implementation != kernels::Implementation::cuda) continue;
      form.differentiable = std::getenv("BACKWARD") != nullptr;
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
        for (const Workload& w : op.workloads) {
          const auto start = std::chrono::steady_clock::now();
          const CheckRow row = check_cell(op, form, type, w, at::kCPU);
          const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
          total += seconds;
          std::cout << (row.pass ? "ok   " : "FAIL ") << op.name << " " << row.dtype << " " << w.name << ": " << row.tensor << " ratio "
                    << row.ratio << " rms " << row.relative_rms << "  " << seconds << " s " << row.message.substr(0, 300) << "\n";
        }
      }
    }
  }
  std::cout << total << " s\n";
}

}  // namespace
}  // namespace klab
