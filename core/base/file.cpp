// SPDX-License-Identifier: Apache-2.0
#include "core/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/system_call.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// The error message of the last failed system call.
std::string reason() { return std::strerror(errno); }

int open_file(const std::string& path, int flags) {
  return uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0644); });
}

int sync_file(int descriptor) {
  return uninterrupted([&] { return ::fsync(descriptor); });
}

// Closes its file descriptor at the end of the scope.
struct Descriptor {
  explicit Descriptor(int number) : value(number) {}
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value;
};

void write_all(int descriptor, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = uninterrupted([&] { return ::write(descriptor, content.data(), content.size()); });
    if (written < 0) fail("cannot write '{}': {}", path, reason());
    content.remove_prefix(static_cast<size_t>(written));
  }
}

// The name of a file or folder is durable only after a sync of the folder that has it.
void sync_folder_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string(), folder = parent.empty() ? "." : parent;
  const Descriptor descriptor(open_file(folder, O_RDONLY | O_DIRECTORY));
  if (descriptor.value < 0) fail("cannot open the folder '{}': {}", folder, reason());
  if (sync_file(descriptor.value) != 0) fail("cannot sync the folder '{}': {}", folder, reason());
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

}  // namespace

NewFile::NewFile(std::string path)
    : path_(std::move(path)),
      temporary_(path_ + ".tmp." + std::to_string(::getpid())),
      descriptor_(open_file(temporary_, O_WRONLY | O_CREAT | O_TRUNC)) {
  if (descriptor_ < 0) fail("cannot write '{}': {}", path_, reason());
}

NewFile::~NewFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void NewFile::write(std::string_view content) { write_all(descriptor_, content, temporary_); }

void NewFile::overwrite(uint64_t offset, std::string_view content) {
  if (::lseek(descriptor_, static_cast<off_t>(offset), SEEK_SET) < 0)
    fail("cannot write '{}': {}", temporary_, reason());
  write(content);
  if (::lseek(descriptor_, 0, SEEK_END) < 0) fail("cannot write '{}': {}", temporary_, reason());
}

void NewFile::commit_as(const std::string& path) {
  if (sync_file(descriptor_) != 0) fail("cannot sync '{}': {}", temporary_, reason());
  rename_to(path);
  sync_folder_of(path);
}

void NewFile::commit_unsynced() { rename_to(path_); }

void NewFile::rename_to(const std::string& path) {
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot close '{}': {}", temporary_, reason());
  if (::rename(temporary_.c_str(), path.c_str()) != 0) fail("cannot rename to '{}': {}", path, reason());
  temporary_.clear();
}

AppendedFile::AppendedFile(std::string path)
    : path_(std::move(path)), descriptor_(open_file(path_, O_WRONLY | O_CREAT | O_APPEND)) {
  if (descriptor_ < 0) fail("cannot append to '{}': {}", path_, reason());
}

AppendedFile::~AppendedFile() { ::close(descriptor_); }

void AppendedFile::write(std::string_view content) { write_all(descriptor_, content, path_); }

void AppendedFile::sync() {
  if (sync_file(descriptor_) != 0) fail("cannot sync '{}': {}", path_, reason());
  if (!std::exchange(named_, true)) sync_folder_of(path_);
}

void write_file(const std::string& path, std::string_view content) {
  NewFile file(path);
  file.write(content);
  file.commit();
}

MappedFile::MappedFile(const std::string& path) {
  const Descriptor descriptor(open_file(path, O_RDONLY));
  if (descriptor.value < 0) fail("cannot read '{}': {}", path, reason());
  struct stat status {};
  if (::fstat(descriptor.value, &status) != 0) fail("cannot read '{}': {}", path, reason());
  if (!S_ISREG(status.st_mode)) fail("cannot read '{}': it is not a plain file", path);
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.value, 0);
  if (memory == MAP_FAILED) fail("cannot map '{}' into memory: {}", path, reason());
  data_ = static_cast<const char*>(memory);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

void MappedFile::release_pages(size_t begin, size_t end) const {
  // Only whole pages inside the range: partial pages contain bytes outside it.
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  begin = (begin + page - 1) / page * page;
  end = end / page * page;
  if (begin < end) ::madvise(const_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

FileStamp stamp_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {};
  return {status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

std::string read_file(const std::string& path) {
  const Descriptor descriptor(open_file(path, O_RDONLY));
  if (descriptor.value < 0) fail("cannot read '{}': {}", path, reason());
  std::string content;
  std::array<char, 1 << 16> block;
  for (;;) {
    const ssize_t got = uninterrupted([&] { return ::read(descriptor.value, block.data(), block.size()); });
    if (got == 0) return content;
    if (got < 0) fail("cannot read '{}': {}", path, errno == EISDIR ? "it is a folder" : reason());
    content.append(block.data(), static_cast<size_t>(got));
  }
}

bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && fs::path(name).filename() == name;
}

std::string path_within(const std::string& folder, const std::string& name) {
  if (!is_file_name(name)) fail("'{}' must be the name of a file in the folder '{}'", name, folder);
  const fs::path parent = folder.empty() ? "." : folder, path = parent / name;
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path.string();
  const fs::path home = fs::canonical(parent, error), target = error ? fs::path() : fs::canonical(path, error);
  if (error) fail("cannot read '{}': {}", path.string(), error.message());
  const fs::path snapshots = home.parent_path();
  const bool blob = snapshots.filename() == "snapshots" && lies_in(target, snapshots.parent_path() / "blobs");
  if (blob || lies_in(target, home)) return path.string();
  fail(
      "'{}' is a symbolic link out of its folder, to '{}': only links inside of the folder, and those of a hub cache's "
      "snapshot to its blobs, are followed; put the file itself there",
      path.string(), target.string());
}

void drop_last_lines(const std::string& path, size_t from, const std::function<bool(const std::string&)>& drops) {
  size_t end = 0;
  {
    const MappedFile file(path);
    end = file.bytes().rfind('\n') + 1;
    while (end > from) {
      const std::string_view lines = file.bytes().substr(0, end - 1);
      const size_t begin = lines.rfind('\n') + 1;
      if (!drops(std::string(lines.substr(begin)))) break;
      end = begin;
    }
    if (end == file.size()) return;
  }
  if (::truncate(path.c_str(), static_cast<off_t>(end)) != 0) fail("cannot shorten '{}': {}", path, reason());
}

void make_writable_folder(const std::string& path) {
  std::error_code error;
  std::vector<std::string> made;
  for (fs::path at = path; !at.empty() && !fs::exists(at, error); at = at.parent_path()) made.push_back(at.string());
  fs::create_directories(path, error);
  if (error) fail("cannot create the folder '{}': {}", path, error.message());
  for (const std::string& one : made) sync_folder_of(one);
  if (::access(path.c_str(), W_OK | X_OK) != 0) fail("cannot write into the folder '{}': {}", path, reason());
}

}  // namespace klab
