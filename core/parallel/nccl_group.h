// SPDX-License-Identifier: Apache-2.0
// Groups of ranks on GPUs, through NCCL.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace klab {

/// A group for tensors on GPUs; its operations end when their results are there. Loads a library of its own, because it
/// needs libtorch_cuda. Throws Error if this build has none.
c10::intrusive_ptr<c10d::Backend> nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                             std::chrono::seconds limit);

}  // namespace klab
