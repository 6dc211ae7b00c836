// Files that are whole or not there.
#pragma once

#include <string>
#include <string_view>

namespace klab {

/// Writes to a temporary name beside `path`, syncs, and renames: `path` holds the old content or the new, never a
/// part. Throws Error that names the path and the reason.
void write_file(const std::string& path, std::string_view content);

/// A file that is written piece by piece and appears under its name only when it is whole.
class NewFile {
 public:
  /// Opens a temporary name beside `path`. Throws Error that names the path and the reason, as all members do.
  explicit NewFile(std::string path);
  /// Without commit() before: nothing is left behind.
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void write(std::string_view content);

  /// Syncs, and renames to `path`, which held its old content until now.
  void commit();

 private:
  std::string path_, temporary_;
  int descriptor_;
};

/// The whole file. Throws Error.
std::string read_file(const std::string& path);

/// A file's bytes in memory, read from the disk when they are looked at; nothing may write to them. Throws Error.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view bytes() const { return {data_, size_}; }

  /// Says that these bytes will not be needed soon, so that the memory can go to others.
  void release_pages(size_t begin, size_t end) const;

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

/// Makes the folder and its parents and proves that it can be written to. Throws Error.
void make_writable_folder(const std::string& path);

}  // namespace klab
