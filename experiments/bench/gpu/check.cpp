// SPDX-License-Identifier: Apache-2.0
// Checks the kernels on the first CUDA device against their float64 definition, and prints CSV:
//
//     gpu_check [--quick] [--operator PART] [--dtype NAME]     the check matrix, as `klab check --device cuda`
//     gpu_check --plans TIERS [--heads N] [...]                the forward kernels of the recurrence in every launch
//                                                              configuration of these tiers (portable,hopper)
//     gpu_check --wgmma [--fault pitch|device]                 the wgmma instruction, see wgmma_check.h
//     gpu_check --barriers                                     a control for race detectors, see barrier_check.h
//
// Needs only torch and CUDA. Compiled with KLAB_EMULATED it runs on the emulation of a device. Every line is flushed;
// the column `plan` says what was launched last, and a configuration other than the requested one fails. --fault tests
// the check of wgmma: with a wrong pitch, or as on a device that has no wgmma.
#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "barrier_check.h"
#include "core/check/matrix.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/recurrence/cuda/forward_plan.h"
#include "wgmma_check.h"
#ifdef KLAB_EMULATED
#include "backend.h"
#endif

namespace klab {
namespace {

struct Options {
  MatrixFilter filter;
  std::string tiers;  // empty: the check matrix
  int64_t heads = 64;
  bool wgmma = false, barriers = false;
  std::string fault;
};

int usage() {
  std::fprintf(
      stderr,
      "usage: gpu_check [--quick] [--operator PART] [--dtype float32|bfloat16|float16] [--plans portable,hopper] "
      "[--heads N] [--wgmma [--fault pitch|device]] [--barriers]\n");
  return 2;
}

bool parse_dtype(const std::string& name, MatrixFilter& filter) {
  for (const CheckedDtype& known : kCheckedDtypes) {
    if (name == known.name) filter.dtypes.push_back(known.type);
  }
  return !filter.dtypes.empty();
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--quick") {
      options.filter.quick = true;
      continue;
    }
    if (word == "--wgmma") {
      options.wgmma = true;
      continue;
    }
    if (word == "--barriers") {
      options.barriers = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (word == "--operator") {
      options.filter.operators = value;
    } else if (word == "--dtype") {
      if (!parse_dtype(value, options.filter)) return false;
    } else if (word == "--plans") {
      options.tiers = value;
    } else if (word == "--heads") {
      options.heads = std::atoll(value.c_str());
      if (options.heads < 1) return false;
    } else if (word == "--fault" && (value == "pitch" || value == "device")) {
      options.fault = value;
    } else {
      return false;
    }
  }
  return options.fault.empty() || options.wgmma;
}

const char* last_plan() {
  const auto last = kernels::cuda::backend().recurrence_last_plan;
  return last == nullptr ? "none" : last();
}

class Report {
 public:
  Report() { std::printf("operator,dtype,workload,plan,tensor,error,allowed,ratio,relative_rms,verdict\n"); }

  void add(const CheckRow& row, const std::string& plan, bool right_plan = true) {
    const bool pass = row.pass && right_plan;
    std::printf("%s,%s,\"%s\",\"%s\",%s,%.3e,%.3e,%.3f,%.3e,%s\n", row.operator_name.c_str(), row.dtype.c_str(),
                row.workload.c_str(), plan.c_str(), row.tensor.c_str(), row.error, row.allowed, row.ratio,
                row.relative_rms, pass ? "ok" : "FAIL");
    std::fflush(stdout);
    if (!row.pass) std::fprintf(stderr, "%s\n", row.message.c_str());
    if (!right_plan) std::fprintf(stderr, "the requested launch configuration did not run\n");
    ++(pass ? passed_ : failed_);
  }

  int finish() const {
    std::fprintf(stderr, "%ld cells right, %ld wrong\n", static_cast<long>(passed_), static_cast<long>(failed_));
    return failed_ > 0 || passed_ == 0 ? 1 : 0;
  }

 private:
  int64_t passed_ = 0, failed_ = 0;
};

struct PlanOfCheck {
  std::string tier;
  int consumers, parts;

  std::string text() const { return kernels::cuda::plan_text(tier == "hopper", consumers, parts); }
  bool fits(int64_t T) const { return kernels::cuda::fills_parts(kernels::cuda::split_into_parts(T, parts), T); }
  void request() const {
    ::setenv("KLAB_CUDA_TIER", tier.c_str(), 1);
    ::setenv("KLAB_CUDA_CONSUMERS", std::to_string(consumers).c_str(), 1);
    ::setenv("KLAB_CUDA_PARTS", std::to_string(parts).c_str(), 1);
  }
};

std::vector<PlanOfCheck> plans_of(const std::string& tiers) {
  std::vector<PlanOfCheck> plans;
  for (const int parts : {1, 2, 3}) {
    for (const int consumers : {4, 2, 1}) {
      if (tiers.find("portable") != std::string::npos) plans.push_back({"portable", consumers, parts});
      if (tiers.find("hopper") != std::string::npos && consumers == 4) plans.push_back({"hopper", 4, parts});
    }
  }
  return plans;
}

void check_plans(const Options& options, Report& report) {
  const std::string name = options.filter.operators.empty() ? "recurrence/channel/delta" : options.filter.operators;
  const at::ScalarType dtype = options.filter.dtypes.empty() ? at::kBFloat16 : options.filter.dtypes.front();
  for (const OperatorCase& op : operator_cases()) {
    if (!op.name.starts_with("recurrence/") || op.name.find(name) == std::string::npos) continue;
    for (const Form& form : op.forms) {
      if (form.implementation != kernels::Implementation::cuda) continue;
      for (const PlanOfCheck& plan : plans_of(options.tiers)) {
        plan.request();
        for (const int64_t T : {16, 17, 48, 80}) {
          if (!plan.fits(T)) continue;
          Workload workload{"T=" + std::to_string(T), 1, T, options.heads, options.heads, 128, 128};
          workload.initial_state = true;
          const CheckRow row = check_cell(op, form, dtype, workload, options.filter.device);
          report.add(row, last_plan(), plan.text() == last_plan());
        }
      }
    }
  }
}

int run_wgmma(const Options& options) {
  constexpr int kWrongBy = -16;
  if (!has_wgmma() || options.fault == "device") {
    skip_wgmma();
    return 0;
  }
  return check_wgmma(options.filter.device, options.fault == "pitch" ? kWrongBy : 0) > 0 ? 1 : 0;
}

int check(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) return usage();
#ifdef KLAB_EMULATED
  kernels::cuda::use_backend(&emulation::emulated_backend());
  options.filter.emulated_cuda = true;
#else
  if (!at::globalContext().hasCUDA()) {
    std::fprintf(stderr, "gpu_check: no CUDA device is usable on this machine\n");
    return 1;
  }
  options.filter.device = at::Device(at::kCUDA, 0);
#endif
  if (options.wgmma) return run_wgmma(options);
  if (options.barriers) return check_barriers(options.filter.device) ? 0 : 1;
  options.filter.implementation = "cuda";
  Report report;
  if (options.tiers.empty()) {
    run_matrix(options.filter, [&](const CheckRow& row) { report.add(row, last_plan()); });
  } else {
    check_plans(options, report);
  }
  return report.finish();
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
