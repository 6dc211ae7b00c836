// The safetensors format: a JSON header that names tensors, then their bytes.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace klab {

/// What a header says of a tensor. Bytes [begin, end) lie behind the header.
struct TensorEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

/// A file whose tensors are looked at where they lie. Every bound is checked when it is opened: header length, JSON,
/// dtype, shape, offsets, overlaps, holes, duplicates. Throws Error that names the file and the tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::map<std::string, TensorEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// The tensor, on the CPU, in the file's memory (which lives as long as the tensor and must not be written to); a
  /// copy where the file does not align it. Throws Error for a name that is not there.
  at::Tensor tensor(const std::string& name) const;

  /// Says that this tensor's bytes will not be needed soon.
  void release_pages(const std::string& name) const;

 private:
  const TensorEntry& at(const std::string& name) const;

  std::string path_;
  std::shared_ptr<MappedFile> file_;
  size_t data_ = 0;  // where the bytes of tensors begin
  std::map<std::string, TensorEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Writes a file whose tensors need not be in memory at the same time. Nothing is there until commit().
class SafetensorsWriter {
 public:
  /// The tensors' names, dtypes and shapes, in the order in which they will come. Throws Error that names a tensor
  /// which stands there twice or whose dtype the format does not have.
  SafetensorsWriter(const std::string& path, std::vector<TensorEntry> entries,
                    const std::map<std::string, std::string>& metadata = {});

  /// The next numbers of tensor `name`: the whole of it, or pieces one after the other. Throws Error.
  void write(const std::string& name, const at::Tensor& piece);

  /// Throws Error that names the tensor which is not complete.
  void commit();

 private:
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

/// Reads `bytes`, checked as SafetensorsFile does; `origin` names them in messages. Gives nothing half-read.
Safetensors decode_safetensors(std::string_view bytes, const std::string& origin);

}  // namespace klab
