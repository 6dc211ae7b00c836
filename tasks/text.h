// SPDX-License-Identifier: Apache-2.0
// Text: language modelling on the user's files.
#pragma once

#include <memory>

#include "tasks/passes.h"
#include "tasks/task.h"
#include "tasks/tokens.h"

namespace klab {

struct TextOptions : Configurable {
  std::vector<std::string> files;
  std::string tokenizer = "bytes", separator, split = "hash", hash;
  bool cross_documents = false;

  void visit(Fields& fields) override;
};

/// Predict the next token of text. Documents are files, or parts of files between separators. Each is preceded by <end>
/// and its last target is <end>, so that a document of n tokens gives n + 1 targets. Documents follow each other
/// without gaps, in an order drawn from the seed anew for every pass over the data, and are cut into rows of
/// task.length positions. A row's documents do not see each other (Example::starts), unless cross_documents is set;
/// task.vocab is not used.
///
/// A hash of its bytes assigns each document to one split; with `split: all` every split has all documents, for files
/// that are used for one purpose only. The last row of validation and test data has positions without a target.
///
/// The difficulty of a target is the gap in tokens to the last place in the row where the same token followed the same
/// token in the same document, and 0 for a pair that is new.
class Text : public Task {
 public:
  Text(const TaskShape& shape, const TextOptions& options);

  int64_t vocabulary() const override { return end() + 1; }
  Example example(int64_t seed, Split split, int64_t index) const override;
  std::optional<int64_t> examples(Split split) const override;
  std::string data_hash() const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }
  std::optional<int64_t> end_token() const override { return end(); }

 private:
  // A pass over the documents of a split: their numbers, and the position where each begins, then the end of the last.
  struct Pass {
    std::vector<int64_t> documents, begins;
  };

  int64_t end() const { return tokens_->encoding().size(); }
  const std::vector<int64_t>& documents_of(Split split) const { return documents_.at(static_cast<size_t>(split)); }
  int64_t positions_of(Split split) const { return positions_.at(static_cast<size_t>(split)); }
  std::shared_ptr<const Pass> pass(int64_t seed, Split split, int64_t number) const;
  void append(Example& row, int64_t document, int64_t first, int64_t count) const;

  int64_t length_;
  bool cross_documents_;
  std::shared_ptr<const DocumentTokens> tokens_;
  std::vector<std::vector<int64_t>> documents_;  // of each split
  std::vector<int64_t> positions_;               // of each split, in one pass
  Passes<Pass> passes_;
};

}  // namespace klab
