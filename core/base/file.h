// SPDX-License-Identifier: Apache-2.0
// Atomic and appending file writes, and memory-mapped files. Calls that a signal interrupts are repeated.
#pragma once

#include <cstdint>
#include <functional>
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

/// Differs after a file was written or replaced; of a file that does not exist it has only zeros.
struct FileStamp {
  uint64_t file = 0;
  int64_t size = 0, seconds = 0, nanoseconds = 0;
  bool operator==(const FileStamp&) const = default;
};
FileStamp stamp_of(const std::string& path);

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

/// Whether a name from a file can be that of a file in the same folder: no path, not "." or "..".
bool is_file_name(const std::string& name);

/// The path of a file that another file names, in its folder. A symbolic link may only lead to a file in or below the
/// folder or, if that is the snapshot of a hub cache (snapshots/REVISION/), in the cache's blobs/. Throws Error that
/// names the link and its target.
std::string path_within(const std::string& folder, const std::string& name);

/// Removes the last lines of a file, after offset `from`, up to the last one for which `drops` is false, and an
/// incomplete one. Reads only these lines. Throws Error.
void drop_last_lines(const std::string& path, size_t from, const std::function<bool(const std::string&)>& drops);

/// Creates the folder and its parents, which are on the disk on return, and checks that it is writable. Throws Error.
void make_writable_folder(const std::string& path);

}  // namespace klab
