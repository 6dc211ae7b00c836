// SPDX-License-Identifier: Apache-2.0
// Shared by tests: temporary folders and error messages.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <string>

#include "core/base/error.h"

namespace klab {

/// A new empty folder that is removed at the end of the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "klab-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error("cannot create a folder for the test");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  size_t entries() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {})); }

 private:
  std::filesystem::path path_;
};

/// The message of the Problem that `action` throws; fails the test and returns "" if it throws none.
template <class Problem>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Problem& problem) {
    return problem.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

/// Like message_of<Error>, but a UsageError, which has another exit code, fails the test.
inline std::string failure_of(const std::function<void()>& action) {
  return message_of<Error>([&] {
    try {
      action();
    } catch (const UsageError& error) {
      ADD_FAILURE() << "thrown as UsageError: " << error.what();
      throw;
    }
  });
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

#define EXPECT_CONTAINS(text, part) EXPECT_TRUE(contains(text, part)) << "the text is: " << (text)

}  // namespace klab
