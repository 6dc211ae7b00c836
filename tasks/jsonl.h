// SPDX-License-Identifier: Apache-2.0
// Prompts and answers from JSON Lines files.
#pragma once

#include <memory>

#include "tasks/encoding.h"
#include "tasks/passes.h"
#include "tasks/task.h"

namespace klab {

struct JsonlOptions : Configurable {
  std::vector<std::string> files;
  std::string prompt = "prompt", answer = "answer", tokenizer = "bytes", split = "hash", too_long = "error", hash;

  void visit(Fields& fields) override;
};

/// Answer the prompts of your files, as in supervised fine-tuning. Each line is a JSON object with the fields `prompt`
/// and `answer`, and gives one row: the prompt's tokens, the answer's, <end>, and <pad> up to task.length. The targets
/// are the answer's tokens and <end>, the first one at the last token of the prompt. A line with more tokens than
/// task.length, with <end>, is an error or left out (too_long: skip). task.vocab is not used.
///
/// A hash of the prompt's bytes assigns each line to one split, so no prompt occurs in two; with `split: all` every
/// split has all lines. The lines of a split come in an order drawn from the seed, anew for every pass.
///
/// The difficulty of a target is the number of tokens of its answer, without <end>.
class Jsonl : public Task {
 public:
  Jsonl(const TaskShape& shape, const JsonlOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example example(int64_t seed, Split split, int64_t index) const override;
  std::optional<int64_t> examples(Split split) const override;
  std::string data_hash() const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "answer_tokens"; }
  std::optional<int64_t> end_token() const override { return end(); }

  /// The tokens of all lines that are used.
  struct Pairs;

 private:
  int64_t end() const { return encoding_->size(); }
  int64_t pad() const { return end() + 1; }
  const std::vector<int64_t>& lines_of(Split split) const { return lines_.at(static_cast<size_t>(split)); }

  int64_t length_;
  std::shared_ptr<const Encoding> encoding_;
  std::shared_ptr<const Pairs> pairs_;
  std::vector<std::vector<int64_t>> lines_;  // numbers of the pairs of each split
  Passes<std::vector<int64_t>> passes_;
};

}  // namespace klab
