// SPDX-License-Identifier: Apache-2.0
// Atomic and appending file writes, and memory-mapped files. Calls that a signal interrupts are repeated.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace klab {

/// Writes to a temporary file in the same folder, syncs, and renames it: `path` has either its old or the complete new
/// content. Throws Error with the path and the reason.
void write_file(const std::string& path, std::string_view content);

/// A file that is written in pieces and appears under its name only when complete.
class NewFile {
 public:
  /// Opens a temporary file in the same folder. All members throw Error with the path and the reason.
  explicit NewFile(std::string path);
  /// Removes the temporary file unless commit() was called.
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::string_view content);
  /// Replaces bytes that were written, from `offset` on.
  void overwrite(uint64_t offset, std::string_view content);

  /// Syncs and renames to `path`, which keeps its old content until then.
  void commit() { commit_as(path_); }
  /// Renames to another path in the same folder instead.
  void commit_as(const std::string& path);
  /// Renames without a sync, which is faster: a power failure may leave `path` empty or with its old content.
  void commit_unsynced();

 private:
  void rename_to(const std::string& path);

  std::string path_, temporary_;
  int descriptor_;
};

/// A file that grows at its end: what was written is in the file on return, and on the disk after sync(). All members
/// throw Error with the path and the reason.
class AppendedFile {
 public:
  /// Creates the file if there is none.
  explicit AppendedFile(std::string path);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  void write(std::string_view content);
  void sync();

 private:
  std::string path_;
  int descriptor_;
  bool named_ = false;  // whether the file's name is on the disk
};

/// Reads the whole file. Throws Error.
std::string read_file(const std::string& path);

/// A read-only memory-mapped file; pages are read from disk on first access. Throws Error.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view bytes() const { return {data_, size_}; }

  /// Releases the memory of the whole pages in [begin, end); they are read again on the next access.
  void release_pages(size_t begin, size_t end) const;

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

/// Creates the folder and its parents, which are on the disk on return, and checks that it is writable. Throws Error.
void make_writable_folder(const std::string& path);

}  // namespace klab
