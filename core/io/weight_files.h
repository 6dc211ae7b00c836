// SPDX-License-Identifier: Apache-2.0
// The weights of a checkpoint in one safetensors file or in several with an index.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/io/safetensors.h"

namespace klab {

/// A folder with `model.safetensors`, or with `model.safetensors.index.json` and the shards that it names. All headers
/// are read and checked when it is opened; tensors are views of the memory-mapped files.
class WeightFiles {
 public:
  /// Throws Error that names the file and the tensor: for a tensor that is missing from its shard, a tensor that is not
  /// in the index, or a file outside of the folder, also by a symbolic link (path_within()).
  explicit WeightFiles(const std::string& folder);

  /// By name; offsets refer to the file that contains the tensor.
  const std::map<std::string, TensorEntry>& entries() const { return entries_; }

  /// As the members of SafetensorsFile.
  at::Tensor tensor(const std::string& name) const { return file_of(name).tensor(name); }
  at::Tensor part(const std::string& name, int64_t first, at::IntArrayRef shape) const {
    return file_of(name).part(name, first, shape);
  }
  void release_pages(const std::string& name) const { file_of(name).release_pages(name); }

  /// The bytes of all tensors.
  uint64_t bytes() const;

 private:
  void add(const std::string& path, const std::map<std::string, std::string>* index);
  const SafetensorsFile& file_of(const std::string& name) const;

  std::string folder_;
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::shared_ptr<SafetensorsFile>> files_;  // by tensor
};

/// Writes the tensors of `entries` into `folder`: as model.safetensors, or, if they exceed `shard_bytes`, as shards
/// with an index. tensor(name) is called once for each tensor, in order. Throws Error.
void write_weight_files(const std::string& folder, const std::vector<TensorEntry>& entries, uint64_t shard_bytes,
                        const std::function<at::Tensor(const std::string& name)>& tensor);

}  // namespace klab
