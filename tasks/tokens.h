// SPDX-License-Identifier: Apache-2.0
// The documents of a corpus as token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tasks/encoding.h"

namespace klab {

/// Thread-safe.
class DocumentTokens {
 public:
  virtual ~DocumentTokens() = default;

  virtual const Encoding& encoding() const = 0;
  virtual int64_t documents() const = 0;
  /// Tokens of a document.
  virtual int64_t length(int64_t document) const = 0;
  /// Tokens [first, first + count) of a document.
  virtual std::vector<int64_t> read(int64_t document, int64_t first, int64_t count) const = 0;
  /// Hash of a document's bytes.
  virtual uint64_t hash(int64_t document) const = 0;
  /// Hash of all documents.
  virtual uint64_t hash() const = 0;
};

/// The documents of the files and folders, with `tokenizer` "bytes" or the path of a `tiktoken.model`. Documents are
/// encoded once, into a file in the folder KLAB_CACHE or, if that is not set, ~/.cache/klab, that is mapped. Calls with
/// the same arguments share one object while it is in use. Throws Error and UsageError.
std::shared_ptr<const DocumentTokens> document_tokens(const std::vector<std::string>& paths,
                                                      const std::string& separator, const std::string& tokenizer);

}  // namespace klab
