// SPDX-License-Identifier: Apache-2.0
// Checkpoints: a safetensors file that contains its own checksum, and perhaps names others with more tensors (shards).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/io/safetensors.h"

namespace klab {

struct Checkpoint {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> fields;  ///< "step", "seconds", ..., as JSON
  std::set<std::string> not_loaded{};         ///< names of other tensors that are stored

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

class FileChecksum;

/// Writes a checkpoint's files tensor by tensor, so that they need not be in memory at the same time: first the shards,
/// if any, then the file with the fields. Any safetensors reader opens them. All members throw Error.
class CheckpointWriter {
 public:
  /// `entries`: the tensors of this file, in the order in which they will be written. `name`: different for each file
  /// that is being written at the same time, if there are several. `shards`: the names of the others.
  CheckpointWriter(const std::string& path, std::vector<TensorEntry> entries, std::map<std::string, std::string> fields,
                   const std::vector<std::string>& shards = {}, const std::string& name = "");
  ~CheckpointWriter();

  void write(const std::string& name, const at::Tensor& tensor);

  /// Replaces the checkpoint at `path`, whose own shards are deleted.
  void commit();
  /// Leaves the file as a shard beside `path`, under a name with its checksum, which is returned.
  std::string commit_shard();

 private:
  std::string end();

  std::string path_;
  std::vector<std::string> shards_;
  std::unique_ptr<FileChecksum> checksum_;
  SafetensorsWriter file_;
};

/// Writes the checkpoint to one file: to a temporary name, syncs, renames. Throws Error.
void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);

/// Loads the tensors that are `wanted`. The file and the shards that have such tensors are read and checked as a whole
/// before anything is used. Throws Error for a truncated file or any flipped bit, and for a shard that is missing.
Checkpoint load_checkpoint(const std::string& path, const std::function<bool(const std::string& name)>& wanted);

/// Loads the tensors whose names begin with `prefix`.
Checkpoint load_checkpoint(const std::string& path, std::string_view prefix = "");

}  // namespace klab
