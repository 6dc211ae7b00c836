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

#include "core/base/error.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// The error message of the last failed system call.
std::string reason() { return std::strerror(errno); }

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
    const ssize_t written = ::write(descriptor, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write '{}': {}", path, reason());
    content.remove_prefix(static_cast<size_t>(written));
  }
}

// A rename is durable only after a sync of the folder.
void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail("cannot open the folder '{}': {}", folder, reason());
  const int status = ::fsync(descriptor);
  ::close(descriptor);
  if (status != 0) fail("cannot sync the folder '{}': {}", folder, reason());
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const fs::path relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

}  // namespace

NewFile::NewFile(std::string path)
    : path_(std::move(path)),
      temporary_(path_ + ".tmp." + std::to_string(::getpid())),
      descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
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
  if (::fsync(descriptor_) != 0) fail("cannot sync '{}': {}", temporary_, reason());
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot close '{}': {}", temporary_, reason());
  if (::rename(temporary_.c_str(), path.c_str()) != 0) fail("cannot rename to '{}': {}", path, reason());
  temporary_.clear();
  const std::string folder = fs::path(path).parent_path().string();
  sync_folder(folder.empty() ? "." : folder);
}

void write_file(const std::string& path, std::string_view content) {
  NewFile file(path);
  file.write(content);
  file.commit();
}

MappedFile::MappedFile(const std::string& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
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
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.value < 0) fail("cannot read '{}': {}", path, reason());
  std::string content;
  std::array<char, 1 << 16> block;
  for (;;) {
    const ssize_t got = ::read(descriptor.value, block.data(), block.size());
    if (got == 0) return content;
    if (got > 0) {
      content.append(block.data(), static_cast<size_t>(got));
    } else if (errno != EINTR) {
      fail("cannot read '{}': {}", path, errno == EISDIR ? "it is a folder" : reason());
    }
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
  fs::create_directories(path, error);
  if (error) fail("cannot create the folder '{}': {}", path, error.message());
  if (::access(path.c_str(), W_OK | X_OK) != 0) fail("cannot write into the folder '{}': {}", path, reason());
}

}  // namespace klab
