// SPDX-License-Identifier: Apache-2.0
#include "tasks/encoding.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <filesystem>
#include <mutex>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/public/tokenizer.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

class ByteEncoding : public Encoding {
 public:
  int64_t size() const override { return 256; }
  std::vector<int64_t> encode(const std::string& text) const override {
    std::vector<int64_t> tokens;
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
    return tokens;
  }
  std::string text(int64_t token) const override { return {static_cast<char>(token)}; }
  uint64_t hash() const override { return 0; }
};

class TiktokenEncoding : public Encoding {
 public:
  TiktokenEncoding(Tokenizer tokenizer, uint64_t hash) : tokenizer_(std::move(tokenizer)), hash_(hash) {}

  int64_t size() const override { return tokenizer_.size(); }
  std::vector<int64_t> encode(const std::string& text) const override {
    const std::lock_guard lock(mutex_);
    return tokenizer_.encode(text, /*special=*/false);
  }
  std::string text(int64_t token) const override {
    const std::lock_guard lock(mutex_);
    return tokenizer_.decode({token});
  }
  uint64_t hash() const override { return hash_; }

 private:
  Tokenizer tokenizer_;
  uint64_t hash_;
  mutable std::mutex mutex_;  // the tokenizer is not thread-safe
};

}  // namespace

std::string tokenizer_folder(const std::string& tokenizer) {
  if (fs::is_directory(tokenizer)) return tokenizer;
  const std::string folder = fs::path(tokenizer).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::shared_ptr<const Encoding> make_encoding(const std::string& tokenizer, const std::string& key) {
  if (tokenizer == "bytes") return std::make_shared<ByteEncoding>();
  const fs::path file = fs::is_directory(tokenizer) ? fs::path(tokenizer) / "tiktoken.model" : fs::path(tokenizer);
  if (!fs::is_regular_file(file)) {
    refuse("{} = {}: must be bytes, or a tiktoken.model or a folder with one", key, tokenizer);
  }
  const std::string ranks = read_file(file.string());
  return std::make_shared<TiktokenEncoding>(Tokenizer::load(tokenizer_folder(tokenizer)),
                                            XXH3_64bits(ranks.data(), ranks.size()));
}

std::string printed_bytes(const std::string& bytes) {
  std::string name;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      name += "\\n";
    } else if (byte < 0x20 || byte >= 0x7f || c == '\\' || c == '<' || c == '_') {
      name += fmt::format("\\x{:02x}", byte);
    } else {
      name += c == ' ' ? '_' : c;
    }
  }
  return name;
}

}  // namespace klab
