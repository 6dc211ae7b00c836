// SPDX-License-Identifier: Apache-2.0
// The library that core/parallel/nccl_group.cpp loads.
#define USE_C10D_NCCL
#include <chrono>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

extern "C" __attribute__((visibility("default"))) void klab_nccl_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                                       int rank, int size, std::chrono::seconds limit,
                                                                       c10::intrusive_ptr<c10d::Backend>& group) {
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = limit;
  group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}
