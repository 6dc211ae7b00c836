// SPDX-License-Identifier: Apache-2.0
// Documents in text files, read through memory maps.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/file.h"

namespace klab {

/// The files that `paths` name, sorted, each once: files, folders (with all files below them, without hidden ones), and
/// glob patterns with *, ? or [..]; the value of the config key `key`. Throws UsageError for a path that names none.
std::vector<std::string> files_of(const std::vector<std::string>& paths, const std::string& key);

/// `text` with \n, \t and \\ replaced by the characters that they stand for. Throws UsageError for another escape.
std::string unescaped(const std::string& text);

struct Document {
  uint32_t file;
  uint64_t begin, end;  ///< bytes of the file
  uint64_t hash;        ///< XXH3 of the bytes

  uint64_t size() const { return end - begin; }
};

/// The documents of files, in the order of the files. Thread-safe. Only their positions are kept in memory; at most
/// `kOpenFiles` files are mapped at a time.
class Corpus {
 public:
  /// An empty `separator`: a file is a document. Otherwise documents are separated by that text, which belongs to none;
  /// empty ones are left out. Throws Error for a file that cannot be read.
  Corpus(std::vector<std::string> files, const std::string& separator);

  const std::vector<Document>& documents() const { return documents_; }
  /// Bytes [first, first + count) of a document.
  std::string text(const Document& document, uint64_t first, uint64_t count) const;
  /// A hash of all documents in their order.
  uint64_t hash() const { return hash_; }

 private:
  static constexpr size_t kOpenFiles = 256;

  std::shared_ptr<const MappedFile> open(uint32_t file) const;

  std::vector<std::string> files_;
  std::vector<Document> documents_;
  uint64_t hash_ = 0;
  mutable std::mutex mutex_;
  mutable std::list<std::pair<uint32_t, std::shared_ptr<const MappedFile>>> open_;  // the last used one first
};

}  // namespace klab
