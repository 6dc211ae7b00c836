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
/// are read and checked when it is opened, the tensors when they are asked for, each where it lies in its file.
class WeightFiles {
 public:
  /// Throws Error that names the file and the tensor: a tensor that the index places in a shard which lacks it or which
  /// holds one that the index does not name, a shard outside of the folder.
  explicit WeightFiles(const std::string& folder);

  /// By name; offsets are those of the file that holds the tensor.
  const std::map<std::string, TensorEntry>& entries() const { return entries_; }

  /// As SafetensorsFile::tensor() and ::release_pages().
  at::Tensor tensor(const std::string& name) const { return file_of(name).tensor(name); }
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

/// Writes tensors of these entries into `folder`: as model.safetensors, or, when they are more than `shard_bytes`, as
/// shards with an index. `tensor` gives each when its turn comes. Throws Error.
void write_weight_files(const std::string& folder, const std::vector<TensorEntry>& entries, uint64_t shard_bytes,
                        const std::function<at::Tensor(const std::string& name)>& tensor);

}  // namespace klab
