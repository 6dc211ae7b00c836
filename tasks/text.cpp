// SPDX-License-Identifier: Apache-2.0
#include "tasks/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/text.h"
#include "tasks/corpus.h"
#include "tasks/gaps.h"

namespace klab {
namespace {

Split split_of(const DocumentTokens& tokens, int64_t document) { return split_of_hash(tokens.hash(document)); }

void require_documents(const std::vector<int64_t>& documents, Split split, const TextOptions& options) {
  if (!documents.empty()) return;
  refuse(
      "task.text.files: no document of {} belongs to the {} split, which gets one document in 16 (train: 14 in 16). "
      "Use "
      "more documents, split files by task.text.separator (\"\\n\\n\": paragraphs), or set task.text.split to all",
      join(options.files), to_string(split));
}

}  // namespace

void TextOptions::visit(Fields& fields) {
  fields("files", files, "files, folders with all files below them, and patterns (*.txt)");
  fields("tokenizer", tokenizer, "bytes, or a tiktoken.model");
  fields("separator", separator,
         "text between documents, with the escapes \\n, \\t and \\\\; empty: a file is a document");
  fields("cross_documents", cross_documents, "whether state and attention cross from one document to the next");
  fields.choice("split", split, {"hash", "all"},
                "hash: every document belongs to training, validation or test; all: to each of them");
  fields("hash", hash, "of the documents; set when a run begins, and a run whose text has changed does not continue");
}

Text::Text(const TaskShape& shape, const TextOptions& options)
    : length_(shape.length),
      cross_documents_(options.cross_documents),
      tokens_(document_tokens(options.files, unescaped(options.separator), options.tokenizer)),
      documents_(3),
      positions_(3) {
  require(
      options.hash.empty() || options.hash == data_hash(), "task.text.hash", options.hash,
      fmt::format("must be {}, which is that of the files: their text has changed since the run began", data_hash()));
  for (const Split split : {Split::train, Split::test, Split::validation}) {
    auto& documents = documents_[static_cast<size_t>(split)];
    int64_t& positions = positions_[static_cast<size_t>(split)];
    for (int64_t document = 0; document < tokens_->documents(); ++document) {
      if (options.split != "all" && split_of(*tokens_, document) != split) continue;
      documents.push_back(document);
      positions += tokens_->length(document) + 1;
    }
    require_documents(documents, split, options);
  }
}

std::string Text::data_hash() const { return fmt::format("{:016x}", tokens_->hash()); }

std::optional<int64_t> Text::examples(Split split) const { return (positions_of(split) + length_ - 1) / length_; }

std::shared_ptr<const Text::Pass> Text::pass(int64_t seed, Split split, int64_t number) const {
  return passes_.at(seed, split, number, [&](Random& random) {
    const std::vector<int64_t>& documents = documents_of(split);
    const auto count = static_cast<int64_t>(documents.size());
    Pass made;
    made.begins.push_back(0);
    for (const int64_t i : random.distinct(count, count)) {
      made.documents.push_back(documents[static_cast<size_t>(i)]);
      made.begins.push_back(made.begins.back() + tokens_->length(made.documents.back()) + 1);
    }
    return made;
  });
}

// Positions [first, first + count) of a document: <end> and its tokens, each with the next one or <end> as its target.
void Text::append(Example& row, int64_t document, int64_t first, int64_t count) const {
  const int64_t length = tokens_->length(document), from = std::max<int64_t>(first - 1, 0);
  const std::vector<int64_t> tokens = tokens_->read(document, from, std::min(first + count, length) - from);
  const auto token = [&](int64_t i) { return tokens[static_cast<size_t>(i - from)]; };
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t label = i == length ? end() : token(i);
    row.starts.push_back(row.size() == 0 || (i == 0 && !cross_documents_) ? 1 : 0);
    row.bytes.push_back(i == length ? 0 : static_cast<int64_t>(tokens_->encoding().text(label).size()));
    row.append(i == 0 ? end() : token(i - 1), label, 0);
  }
}

Example Text::example(int64_t seed, Split split, int64_t index) const {
  const int64_t all = positions_of(split);
  Example row;
  while (row.size() < length_) {
    const int64_t position = index * length_ + row.size();
    if (split != Split::train && position >= all) {
      row.starts.push_back(row.size() == 0 || row.labels.back() != kNoTarget ? 1 : 0);
      row.bytes.push_back(0);
      row.append(end());
      continue;
    }
    const std::shared_ptr<const Pass> order = pass(seed, split, position / all);
    const int64_t within = position % all;
    const auto next = std::upper_bound(order->begins.begin(), order->begins.end(), within);
    const auto which = static_cast<size_t>(next - order->begins.begin() - 1);
    append(row, order->documents[which], within - order->begins[which], std::min(*next - within, length_ - row.size()));
  }
  set_gaps(row);
  return row;
}

std::string Text::token_name(int64_t id) const {
  if (id < 0 || id > end()) fail("text has no token {}: the ids are 0 to {}", id, end());
  return id == end() ? "<end>" : printed_bytes(tokens_->encoding().text(id));
}

TaskEntry text_task() { return task_entry<Text, TextOptions>("text", "predict the next token of your text files"); }

}  // namespace klab
