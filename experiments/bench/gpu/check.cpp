// SPDX-License-Identifier: Apache-2.0
// The check matrix on the first CUDA device, as CSV: gpu_check [--quick] [--operator PART] [--dtype NAME]
//
// The same as `klab check --device cuda`, for GPU machines that have only torch and CUDA.
#include <ATen/ATen.h>

#include <cstdio>
#include <string>

#include "core/check/matrix.h"

namespace klab {
namespace {

int usage() {
  std::fprintf(stderr, "usage: gpu_check [--quick] [--operator PART] [--dtype float32|bfloat16|float16]\n");
  return 2;
}

bool parse(int argc, char** argv, MatrixFilter& filter) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (word == "--quick") {
      filter.quick = true;
    } else if (word == "--operator" && !value.empty()) {
      filter.operators = argv[++i];
    } else if (word == "--dtype" && !value.empty()) {
      for (const CheckedDtype& known : kCheckedDtypes) {
        if (value == known.name) filter.dtypes.push_back(known.type);
      }
      if (filter.dtypes.empty()) return false;
      ++i;
    } else {
      return false;
    }
  }
  return true;
}

int check(int argc, char** argv) {
  MatrixFilter filter;
  if (!parse(argc, argv, filter)) return usage();
  if (!at::globalContext().hasCUDA()) {
    std::fprintf(stderr, "gpu_check: no CUDA device is usable on this machine\n");
    return 1;
  }
  filter.device = at::Device(at::kCUDA, 0);
  filter.implementation = "cuda";
  int64_t wrong = 0;
  std::printf("operator,dtype,workload,tensor,error,allowed,ratio,relative_rms,verdict\n");
  const auto rows = run_matrix(filter, [&](const CheckRow& row) {
    std::printf("%s,%s,\"%s\",%s,%.3e,%.3e,%.3f,%.3e,%s\n", row.operator_name.c_str(), row.dtype.c_str(),
                row.workload.c_str(), row.tensor.c_str(), row.error, row.allowed, row.ratio, row.relative_rms,
                row.pass ? "ok" : "FAIL");
    if (!row.pass) std::fprintf(stderr, "%s\n", row.message.c_str());
    std::fflush(stdout);
    wrong += row.pass ? 0 : 1;
  });
  std::fprintf(stderr, "%zu cells right, %ld wrong\n", rows.size() - static_cast<size_t>(wrong),
               static_cast<long>(wrong));
  return rows.empty() || wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace klab

int main(int argc, char** argv) {
  try {
    return klab::check(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_check: %s\n", error.what());
    return 1;
  }
}
