// SPDX-License-Identifier: Apache-2.0
#include "tasks/corpus.h"

#include <fmt/format.h>
#include <glob.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

constexpr size_t kScanned = size_t{32} << 20;  // bytes of a file after which their memory is released

bool hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

void add_folder(const std::string& folder, std::vector<std::string>& files) {
  for (auto entry = fs::recursive_directory_iterator(folder); entry != fs::end(entry); ++entry) {
    if (entry->is_directory() && hidden(entry->path())) entry.disable_recursion_pending();
    if (entry->is_regular_file() && !hidden(entry->path())) files.push_back(entry->path().string());
  }
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int failed = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> matches;
  if (failed == 0) matches.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return matches;
}

void add_path(const std::string& path, const std::string& key, std::vector<std::string>& files) {
  if (fs::is_directory(path)) return add_folder(path, files);
  if (fs::is_regular_file(path)) return files.push_back(path);
  const std::vector<std::string> matches = matches_of(path);
  if (matches.empty()) refuse("{}: '{}' is no file, no folder, and a pattern of no file", key, path);
  for (const std::string& match : matches) {
    if (fs::is_directory(match)) {
      add_folder(match, files);
    } else {
      files.push_back(match);
    }
  }
}

}  // namespace

std::vector<std::string> files_of(const std::vector<std::string>& paths, const std::string& key) {
  if (paths.empty()) refuse("{} must name files, folders or patterns: [book.txt, notes/, data/*.md]", key);
  std::vector<std::string> files;
  try {
    for (const std::string& path : paths) add_path(path, key, files);
  } catch (const fs::filesystem_error& error) {
    fail("{}: {}", key, error.what());
  }
  if (files.empty()) refuse("{}: there is no file in {}", key, fmt::join(paths, ", "));
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      plain += text[i];
      continue;
    }
    const char escape = ++i < text.size() ? text[i] : '\0';
    const size_t known = std::string_view("nt\\").find(escape);
    if (escape == '\0' || known == std::string_view::npos) refuse("'{}': the escapes are \\n, \\t and \\\\", text);
    plain += "\n\t\\"[known];
  }
  return plain;
}

Corpus::Corpus(std::vector<std::string> files, const std::string& separator) : files_(std::move(files)) {
  XXH3_state_t* const all = XXH3_createState();
  XXH3_64bits_reset(all);
  for (uint32_t file = 0; file < files_.size(); ++file) {
    const MappedFile mapped(files_[file]);
    const std::string_view text = mapped.bytes();
    size_t released = 0;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t found = separator.empty() ? std::string_view::npos : text.find(separator, begin);
      const size_t end = found == std::string_view::npos ? text.size() : found;
      if (end > begin) {
        documents_.push_back({file, begin, end, XXH3_64bits(text.data() + begin, end - begin)});
        XXH3_64bits_update(all, &documents_.back().hash, sizeof(uint64_t));
      }
      begin = found == std::string_view::npos ? text.size() + 1 : end + separator.size();
      if (begin - released < kScanned) continue;
      mapped.release_pages(released, begin);
      released = begin;
    }
  }
  hash_ = XXH3_64bits_digest(all);
  XXH3_freeState(all);
}

std::shared_ptr<const MappedFile> Corpus::open(uint32_t file) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(open_.begin(), open_.end(), [&](const auto& entry) { return entry.first == file; });
  if (found != open_.end()) {
    open_.splice(open_.begin(), open_, found);
  } else {
    open_.emplace_front(file, std::make_shared<const MappedFile>(files_[file]));
    if (open_.size() > kOpenFiles) open_.pop_back();
  }
  return open_.front().second;
}

std::string Corpus::text(const Document& document, uint64_t first, uint64_t count) const {
  const std::shared_ptr<const MappedFile> file = open(document.file);
  if (document.end > file->size()) fail("'{}' has become shorter since the run began", files_[document.file]);
  return std::string(file->bytes().substr(document.begin + first, count));
}

}  // namespace klab
