// SPDX-License-Identifier: Apache-2.0
// Text as token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace klab {

/// Thread-safe.
class Encoding {
 public:
  virtual ~Encoding() = default;

  /// One more than the largest id.
  virtual int64_t size() const = 0;
  /// The ids of a text; names of special tokens in it are text.
  virtual std::vector<int64_t> encode(const std::string& text) const = 0;
  /// The bytes of text that a token stands for.
  virtual std::string text(int64_t token) const = 0;
  /// A hash of the tokenizer's file; 0 for bytes.
  virtual uint64_t hash() const = 0;
};

/// `tokenizer` is "bytes", or the path of a `tiktoken.model` or of a folder with one, and the value of the config key
/// `key`. Throws UsageError if there is no such file, Error if it is damaged.
std::shared_ptr<const Encoding> make_encoding(const std::string& tokenizer, const std::string& key);

/// The folder of a `tiktoken.model` that is given by its own path or by that of its folder.
std::string tokenizer_folder(const std::string& tokenizer);

/// The printed name of a token that stands for these bytes: a space as `_`, other bytes that do not print, and `\`, `<`
/// and `_`, as escapes.
std::string printed_bytes(const std::string& bytes);

}  // namespace klab
