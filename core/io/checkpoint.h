// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a safetensors file that contains its own checksum.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/base/json.h"

namespace klab {

struct Checkpoint {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> fields;  ///< "step", "seconds", ..., as JSON

  /// A field or tensor that must be there. Throws Error that names it.
  const std::string& field(const std::string& name) const;
  /// A field that holds JSON. Throws Error that names it.
  template <class T>
  T json_field(const std::string& name) const {
    const nlohmann::ordered_json value = parse_json(field(name), "the checkpoint's field '" + name + "'");
    try {
      return value_from<T>(value);
    } catch (const nlohmann::json::exception& error) {
      fail("the checkpoint's field '{}' is malformed: {}", name, error.what());
    }
  }
  const at::Tensor& tensor(const std::string& name) const;
};

/// Writes to a temporary name, syncs, renames. Any safetensors reader opens the file. Throws Error.
void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);

/// Reads the whole file and checks it before anything is used; then loads the tensors whose names begin with `prefix`.
/// Throws Error for a truncated file or any flipped bit.
Checkpoint load_checkpoint(const std::string& path, std::string_view prefix = "");

}  // namespace klab
