// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.h"

#include <ATen/ATen.h>

#include <cstring>

#include "fuzz/safetensors_bytes.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// A safetensors file (safetensors_bytes()), mapped and copied, is read as it was written.
void safetensors(std::string_view input) {
  const std::string bytes = safetensors_bytes(input);
  const Safetensors content = decode_safetensors(bytes, "input");
  const SafetensorsFile file(scratch_file("input.safetensors", bytes));
  const Safetensors again = decode_safetensors(encode_safetensors(content), "written");
  expect(again.metadata == content.metadata && file.metadata() == content.metadata, "metadata are read as others");
  expect(again.tensors.size() == content.tensors.size(), "a written tensor is lost");
  expect(file.entries().size() == content.tensors.size(), "a mapped tensor is lost");
  for (const auto& [name, tensor] : content.tensors) {
    const at::Tensor mapped = file.tensor(name), written = again.tensors.at(name);
    for (const at::Tensor& other : {mapped, written}) {
      expect(other.scalar_type() == tensor.scalar_type() && other.sizes() == tensor.sizes(),
             "a tensor's shape changed");
      const bool same =
          tensor.nbytes() == 0 || std::memcmp(other.const_data_ptr(), tensor.const_data_ptr(), tensor.nbytes()) == 0;
      expect(same, "a tensor's bytes changed");
    }
  }
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(safetensors)
