// SPDX-License-Identifier: Apache-2.0
#include "tasks/tokens.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "tasks/corpus.h"

namespace klab {
namespace {

class ByteTokens : public DocumentTokens {
 public:
  ByteTokens(std::shared_ptr<const Corpus> corpus, std::shared_ptr<const Encoding> encoding)
      : corpus_(std::move(corpus)), encoding_(std::move(encoding)) {}

  const Encoding& encoding() const override { return *encoding_; }
  int64_t documents() const override { return static_cast<int64_t>(corpus_->documents().size()); }
  int64_t length(int64_t document) const override { return static_cast<int64_t>(at(document).size()); }
  std::vector<int64_t> read(int64_t document, int64_t first, int64_t count) const override {
    return encoding_->encode(corpus_->text(at(document), static_cast<uint64_t>(first), static_cast<uint64_t>(count)));
  }
  uint64_t hash(int64_t document) const override { return at(document).hash; }
  uint64_t hash() const override { return corpus_->hash(); }

 private:
  const Document& at(int64_t document) const { return corpus_->documents().at(static_cast<size_t>(document)); }

  std::shared_ptr<const Corpus> corpus_;
  std::shared_ptr<const Encoding> encoding_;
};

// --- Encoded documents: a file of all tokens (uint32), where each document begins among them and where the last ends
// (uint64), and the number of documents (uint64); little-endian.

std::string cache_folder() {
  if (const char* folder = std::getenv("KLAB_CACHE"); folder != nullptr && *folder != '\0') return folder;
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    fail("there is no folder for encoded text: set KLAB_CACHE to one, because HOME is not set");
  }
  return std::string(home) + "/.cache/klab";
}

template <class Number>
std::string_view bytes_of(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

void encode(const Corpus& corpus, const Encoding& encoding, const std::string& path) {
  NewFile file(path);
  std::vector<uint64_t> begins{0};
  Progress progress("encoding text", static_cast<int64_t>(corpus.documents().size()));
  for (const Document& document : corpus.documents()) {
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while encoding text");
    std::vector<uint32_t> tokens;
    for (const int64_t id : encoding.encode(corpus.text(document, 0, document.size()))) {
      tokens.push_back(static_cast<uint32_t>(id));
    }
    file.write(bytes_of(tokens));
    begins.push_back(begins.back() + tokens.size());
    progress.update(static_cast<int64_t>(begins.size()) - 1, fmt::format("{} tokens", begins.back()));
  }
  const std::vector<uint64_t> count{corpus.documents().size()};
  file.write(std::string(begins.back() % 2 * sizeof(uint32_t), '\0'));  // so that the numbers below are aligned
  file.write(bytes_of(begins));
  file.write(bytes_of(count));
  file.commit();
}

class EncodedTokens : public DocumentTokens {
 public:
  EncodedTokens(std::shared_ptr<const Corpus> corpus, std::shared_ptr<const Encoding> encoding, const std::string& path)
      : corpus_(std::move(corpus)), encoding_(std::move(encoding)), file_(path) {
    const uint64_t documents = corpus_->documents().size(), tail = (documents + 2) * sizeof(uint64_t);
    if (file_.size() < tail || number(file_.size() - sizeof(uint64_t)) != documents) {
      fail("'{}' is damaged: remove it, and the text is encoded again", path);
    }
    begins_ = file_.size() - tail;
  }

  const Encoding& encoding() const override { return *encoding_; }
  int64_t documents() const override { return static_cast<int64_t>(corpus_->documents().size()); }
  int64_t length(int64_t document) const override { return begin(document + 1) - begin(document); }
  std::vector<int64_t> read(int64_t document, int64_t first, int64_t count) const override {
    std::vector<int64_t> tokens;
    const auto at = static_cast<size_t>(begin(document) + first) * sizeof(uint32_t);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      uint32_t id = 0;
      std::memcpy(&id, file_.data() + at + i * sizeof(uint32_t), sizeof id);
      tokens.push_back(id);
    }
    return tokens;
  }
  uint64_t hash(int64_t document) const override { return corpus_->documents().at(static_cast<size_t>(document)).hash; }
  uint64_t hash() const override { return corpus_->hash(); }

 private:
  uint64_t number(size_t at) const {
    uint64_t number = 0;
    std::memcpy(&number, file_.data() + at, sizeof number);
    return number;
  }
  int64_t begin(int64_t document) const {
    return static_cast<int64_t>(number(begins_ + static_cast<size_t>(document) * sizeof(uint64_t)));
  }

  std::shared_ptr<const Corpus> corpus_;
  std::shared_ptr<const Encoding> encoding_;
  MappedFile file_;
  size_t begins_ = 0;
};

std::shared_ptr<const DocumentTokens> encoded_tokens(std::shared_ptr<const Corpus> corpus,
                                                     std::shared_ptr<const Encoding> encoding) {
  const std::string path = fmt::format("{}/{:016x}-{:016x}.tokens", cache_folder(), corpus->hash(), encoding->hash());
  if (!std::filesystem::exists(path)) {
    make_writable_folder(cache_folder());
    encode(*corpus, *encoding, path);
  }
  return std::make_shared<EncodedTokens>(std::move(corpus), std::move(encoding), path);
}

}  // namespace

std::shared_ptr<const DocumentTokens> document_tokens(const std::vector<std::string>& paths,
                                                      const std::string& separator, const std::string& tokenizer) {
  static std::mutex mutex;
  static std::map<std::tuple<std::vector<std::string>, std::string, std::string>, std::weak_ptr<const DocumentTokens>>
      known;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const DocumentTokens>& shared = known[{paths, separator, tokenizer}];
  if (auto tokens = shared.lock()) return tokens;
  auto corpus = std::make_shared<const Corpus>(files_of(paths, "task.text.files"), separator);
  if (corpus->documents().empty()) refuse("task.text.files: all files in {} are empty", fmt::join(paths, ", "));
  auto encoding = make_encoding(tokenizer, "task.text.tokenizer");
  std::shared_ptr<const DocumentTokens> tokens =
      tokenizer == "bytes" ? std::make_shared<ByteTokens>(std::move(corpus), std::move(encoding))
                           : encoded_tokens(std::move(corpus), std::move(encoding));
  shared = tokens;
  return tokens;
}

}  // namespace klab
