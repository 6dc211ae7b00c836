// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/nccl_group.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "core/base/error.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using BackendPointer = c10::intrusive_ptr<c10d::Backend>;
using MakeGroup = void(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, std::chrono::seconds limit,
                       BackendPointer& group);

MakeGroup* load() {
  constexpr const char* kLibrary = "libklab_nccl.so";
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  for (const fs::path& path : {folder / kLibrary, folder.parent_path() / "lib" / kLibrary}) {
    if (!fs::exists(path)) continue;
    void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* const entry = library == nullptr ? nullptr : ::dlsym(library, "klab_nccl_group");
    if (entry == nullptr) fail("several ranks on GPUs: {}", ::dlerror());
    return reinterpret_cast<MakeGroup*>(entry);
  }
  fail(
      "several ranks on GPUs: this build has no NCCL ({} is not beside the program); with the CUDA toolkit and NCCL's "
      "headers, which come with torch, KLAB_CUDA=on ./klab build builds it",
      kLibrary);
}

}  // namespace

BackendPointer nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                          std::chrono::seconds limit) {
  static MakeGroup* const make = load();
  ::setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);  // so that a failure is an exception here, as with Gloo
  BackendPointer group;
  make(store, rank, size, limit, group);
  return group;
}

}  // namespace klab
