// SPDX-License-Identifier: Apache-2.0
// The safetensors format: a JSON header that describes tensors, then their bytes.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace klab {

/// A tensor's header entry. Its bytes are [begin, end), counted from the end of the header.
struct TensorEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

/// The entry of a tensor, without its place.
TensorEntry entry_of(const std::string& name, const at::Tensor& tensor);

/// A memory-mapped file. Everything is checked when it is opened: header length, JSON, dtype, shape, offsets, overlaps,
/// holes, duplicates. Throws Error that names the file and the tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// The tensor, on the CPU, as a view of the mapped file (which stays open as long as the tensor exists and must not
  /// be written to), or a copy if it is not aligned in the file. Throws Error for an unknown name.
  at::Tensor tensor(const std::string& name) const;

  /// The consecutive elements of the tensor from number `first` on, in this shape, as tensor(): no other elements are
  /// copied. Throws Error if the tensor has fewer.
  at::Tensor part(const std::string& name, int64_t first, at::IntArrayRef shape) const;

  /// Advises the system that this tensor's pages will not be needed soon.
  void release_pages(const std::string& name) const;

 private:
  const TensorEntry& at(const std::string& name) const;

  std::string path_;
  std::shared_ptr<MappedFile> file_;
  size_t data_ = 0;  // offset of the tensors' bytes
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a file tensor by tensor, so that they need not be in memory at the same time. The file appears at commit().
class SafetensorsWriter {
 public:
  /// `entries`: the tensors' names, dtypes and shapes, in the order in which they will be written. Throws Error that
  /// names a tensor which is listed twice or whose dtype the format does not have.
  SafetensorsWriter(const std::string& path, std::vector<TensorEntry> entries,
                    const std::map<std::string, std::string>& metadata = {});

  /// Writes tensor `name`, as a whole or in consecutive pieces. Throws Error.
  void write(const std::string& name, const at::Tensor& piece);

  /// The file's first bytes, which describe the tensors.
  const std::string& header() const { return header_; }
  /// Gives a metadata field of the header another value of the same length.
  void replace_metadata(const std::string& field, const std::string& value);

  /// Throws Error that names the tensor which is not complete.
  void commit() { commit_as(path_); }
  /// The file appears under another path in the same folder.
  void commit_as(const std::string& path);

 private:
  std::string path_, header_;
  std::vector<TensorEntry> entries_;
  size_t next_ = 0;
  uint64_t written_ = 0;
  NewFile file_;
};

/// The content of a safetensors file. Tensors are on the CPU.
struct Safetensors {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// The bytes of a safetensors file; tensors are stored in the order of their names, without holes.
/// Throws Error that names a tensor whose dtype the format does not have.
std::string encode_safetensors(const Safetensors& content);

/// Reads `bytes` with the checks of SafetensorsFile; `origin` names them in messages.
Safetensors decode_safetensors(std::string_view bytes, const std::string& origin);

}  // namespace klab
