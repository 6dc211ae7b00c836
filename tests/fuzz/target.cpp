// SPDX-License-Identifier: Apache-2.0
#include "fuzz/target.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <typeinfo>

#include "core/base/error.h"

namespace klab::fuzz {
namespace {

namespace fs = std::filesystem;

struct Broken : std::logic_error {
  using std::logic_error::logic_error;
};

struct ScratchFolder {
  ScratchFolder() : path((fs::temp_directory_path() / fmt::format("klab-fuzz-{}", ::getpid())).string()) {
    fs::create_directories(path);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string path;
};

}  // namespace

std::string finding(Target target, std::string_view input) {
  try {
    target(input);
    return "";
  } catch (const Error& error) {
    return std::string_view(error.what()).empty() ? "an error without a message" : "";
  } catch (const Broken& broken) {
    return broken.what();
  } catch (const std::exception& error) {
    return fmt::format("an exception of type {}: {}", typeid(error).name(), error.what());
  }
}

void expect(bool holds, const char* what) {
  if (!holds) throw Broken(what);
}

const std::string& scratch_folder() {
  static const ScratchFolder folder;
  return folder.path;
}

// Without the syncs of write_file().
std::string scratch_file(const std::string& name, std::string_view content) {
  std::string path = (fs::path(scratch_folder()) / name).string();
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  expect(file.good(), "the scratch folder cannot be written");
  return path;
}

int run(Target target, const uint8_t* data, size_t size) {
  const std::string wrong = finding(target, {reinterpret_cast<const char*>(data), size});
  if (wrong.empty()) return 0;
  fmt::print(stderr, "klab: finding: {}\n", wrong);
  std::abort();
}

std::pair<std::string_view, std::string_view> halves(std::string_view input, std::string_view separator) {
  const size_t at = input.find(separator);
  if (at == std::string_view::npos) return {input, {}};
  return {input.substr(0, at), input.substr(at + separator.size())};
}

}  // namespace klab::fuzz
