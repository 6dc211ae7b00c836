// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <filesystem>

#include "core/io/weight_files.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// The index of weights in two shards. Every tensor of an index that is accepted can be read.
void weight_index(std::string_view input) {
  static const std::string kFolder = [] {
    std::filesystem::create_directories(scratch_folder() + "/weights");
    const Safetensors first{{{"a", at::ones({2})}, {"b", at::ones({0, 3})}}, {}}, second{{{"c", at::ones({1})}}, {}};
    scratch_file("weights/1.safetensors", encode_safetensors(first));
    scratch_file("weights/2.safetensors", encode_safetensors(second));
    return scratch_folder() + "/weights";
  }();
  scratch_file("weights/model.safetensors.index.json", input);
  const WeightFiles files(kFolder);
  for (const auto& [name, entry] : files.entries()) expect(files.tensor(name).sizes() == entry.shape, "another shape");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(weight_index)
