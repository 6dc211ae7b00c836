// SPDX-License-Identifier: Apache-2.0
// Finds and loads the CUDA kernel library at the first call with a CUDA tensor.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>

#include "kernels/common/cuda/backend.h"

namespace klab::kernels::cuda {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libklab_cuda.so";

// The folder of the library or program that this code is linked into.
fs::path own_folder() {
  Dl_info info{};
  static const int anchor = 0;
  if (::dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code ignored;
  return fs::canonical(info.dli_fname, ignored).parent_path();
}

fs::path library_path() {
  if (const char* named = std::getenv("KLAB_CUDA_LIBRARY")) return named;
  const fs::path folder = own_folder();
  for (const fs::path& candidate : {folder / kLibrary, folder.parent_path() / "lib" / kLibrary}) {
    std::error_code ignored;
    if (fs::exists(candidate, ignored)) return candidate;
  }
  return {};
}

struct Loaded {
  const Backend* backend = nullptr;
  std::string error;
};

Loaded load() {
  const fs::path path = library_path();
  if (path.empty()) {
    return {nullptr, std::string("this build has no CUDA kernels (") + kLibrary +
                         " is not beside it); with the CUDA toolkit installed, KLAB_CUDA=on ./klab build builds it"};
  }
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {nullptr, std::string("the CUDA kernels do not load: ") + ::dlerror()};
  const auto entry = reinterpret_cast<const Backend* (*)(int)>(::dlsym(library, "klab_cuda_backend"));
  const Backend* const backend = entry == nullptr ? nullptr : entry(kBackendVersion);
  if (backend == nullptr) return {nullptr, path.string() + " belongs to another version of klab; rebuild it"};
  return {backend, ""};
}

const Loaded& loaded() {
  static const Loaded once = load();
  return once;
}

std::string load_and_ask(at::Device device);

// The backend until the first call with a CUDA tensor, so that a CPU-only program never loads the CUDA runtime.
const Backend not_loaded{.unsupported_reason = load_and_ask};
std::atomic<const Backend*> in_use = &not_loaded;

std::string load_and_ask(at::Device device) {
  if (!device.is_cuda()) return "the tensors are not on a CUDA device";
  if (loaded().backend == nullptr) return loaded().error;
  in_use = loaded().backend;
  return loaded().backend->unsupported_reason(device);
}

}  // namespace

const Backend& backend() { return *in_use; }

bool available() { return in_use != &not_loaded || loaded().backend != nullptr; }

void use_backend(const Backend* other) { in_use = other == nullptr ? &not_loaded : other; }

}  // namespace klab::kernels::cuda
