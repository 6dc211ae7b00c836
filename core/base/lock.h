// SPDX-License-Identifier: Apache-2.0
// Locks between processes, on files.
#pragma once

#include <optional>
#include <string>

namespace klab {

/// An exclusive advisory lock on a file, held during its lifetime; the system releases it when the process ends.
class Lock {
 public:
  /// Empty if another process holds the lock. Throws Error when the file cannot be created.
  static std::optional<Lock> take(const std::string& path);
  /// The process that took the lock last: "process 1234 on node7".
  static std::string holder(const std::string& path);

  Lock(Lock&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  Lock& operator=(Lock&&) = delete;
  ~Lock();

 private:
  explicit Lock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace klab
