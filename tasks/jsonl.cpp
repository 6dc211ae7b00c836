// SPDX-License-Identifier: Apache-2.0
#include "tasks/jsonl.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <map>
#include <mutex>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/text.h"
#include "tasks/corpus.h"
#include "tasks/json_lines.h"
#include "tasks/prompt_answer.h"

namespace klab {

struct Jsonl::Pairs {
  struct Pair {
    int64_t begin;           // of the prompt in `tokens`
    int32_t prompt, answer;  // tokens
    Split split;
  };
  std::vector<int32_t> tokens;  // of each pair: the prompt, then the answer
  std::vector<Pair> pairs;
  uint64_t hash = 0;  // of all lines, also of those that are too long
};

namespace {

constexpr size_t kQuickBytes = size_t{16} << 20;  // read in about a second

uint64_t hash_of(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }
uint64_t combined(uint64_t left, uint64_t right) {
  const uint64_t both[] = {left, right};
  return XXH3_64bits(both, sizeof both);
}

// What the tokens of the pairs depend on.
struct PairSource {
  std::vector<std::string> files;
  PairFields fields;
  int64_t length;
  bool skip;

  // Of the files' content and everything else.
  uint64_t hash(const Encoding& encoding) const {
    uint64_t hash = combined(encoding.hash(), static_cast<uint64_t>(2 * length + (skip ? 1 : 0)));
    for (const std::string& text : {fields.prompt, fields.answer}) hash = combined(hash, hash_of(text));
    for (const std::string& file : files) {
      hash = combined(combined(hash, hash_of(file)), hash_of(MappedFile(file).bytes()));
    }
    return hash;
  }
};

class PairLoader {
 public:
  PairLoader(const PairSource& source, const Encoding& encoding) : source_(source), encoding_(encoding) {}

  Jsonl::Pairs load() {
    size_t all = 0, before = 0;
    for (const std::string& file : source_.files) all += MappedFile(file).size();
    Progress progress("reading JSON Lines", static_cast<int64_t>(all), 0, /*quiet=*/all < kQuickBytes);
    for (const std::string& file : source_.files) {
      const MappedFile mapped(file);
      for_each_pair(file, mapped.bytes(), source_.fields, [&](const TextPair& pair) {
        if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while reading JSON Lines");
        add(pair);
        progress.update(static_cast<int64_t>(before + pair.end), fmt::format("{} lines", lines_));
      });
      before += mapped.size();
    }
    if (lines_ == 0) refuse("task.jsonl.files: there is no line in {}", join(source_.files));
    if (loaded_.pairs.empty()) {
      refuse("task.length = {}: all {} lines of {} have more tokens, with <end>; the shortest has {}", source_.length,
             lines_, join(source_.files), shortest_);
    }
    return std::move(loaded_);
  }

 private:
  void add(const TextPair& pair) {
    ++lines_;
    const uint64_t of_prompt = hash_of(pair.prompt);
    loaded_.hash = combined(loaded_.hash, combined(of_prompt, hash_of(pair.answer)));
    const std::vector<int64_t> prompt = encoding_.encode(pair.prompt), answer = encoding_.encode(pair.answer);
    if (!fits(pair.where, static_cast<int64_t>(prompt.size() + answer.size()) + 1)) return;
    loaded_.pairs.push_back({static_cast<int64_t>(loaded_.tokens.size()), static_cast<int32_t>(prompt.size()),
                             static_cast<int32_t>(answer.size()), split_of_hash(of_prompt)});
    for (const auto& part : {prompt, answer}) loaded_.tokens.insert(loaded_.tokens.end(), part.begin(), part.end());
  }

  bool fits(const std::string& where, int64_t tokens) {
    shortest_ = shortest_ == 0 ? tokens : std::min(shortest_, tokens);
    if (tokens > source_.length && !source_.skip) {
      refuse(
          "{}: the line has {} tokens, with <end>, but task.length = {}. Make it larger, or leave such lines out with "
          "task.jsonl.too_long = skip",
          where, tokens, source_.length);
    }
    return tokens <= source_.length;
  }

  const PairSource& source_;
  const Encoding& encoding_;
  Jsonl::Pairs loaded_;
  int64_t lines_ = 0, shortest_ = 0;
};

// Loaded once while they are in use, and the last ones after that: a config is checked several times before a run.
std::shared_ptr<const Jsonl::Pairs> pairs_of(const PairSource& source, const Encoding& encoding) {
  static std::mutex mutex;
  static std::map<uint64_t, std::weak_ptr<const Jsonl::Pairs>> known;
  static std::shared_ptr<const Jsonl::Pairs> last;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const Jsonl::Pairs>& shared = known[source.hash(encoding)];
  if (auto pairs = shared.lock()) return pairs;
  last.reset();
  last = std::make_shared<const Jsonl::Pairs>(PairLoader(source, encoding).load());
  shared = last;
  return last;
}

}  // namespace

void JsonlOptions::visit(Fields& fields) {
  fields("files", files, "JSON Lines files, folders with all files below them, and patterns (*.jsonl)");
  fields("prompt", prompt, "name of the field with the prompt");
  fields("answer", answer, "name of the field with the answer");
  fields("tokenizer", tokenizer, "bytes, or a tiktoken.model");
  fields.choice("split", split, {"hash", "all"},
                "hash: every prompt belongs to training, validation or test; all: to each of them");
  fields.choice("too_long", too_long, {"error", "skip"},
                "lines with more tokens than task.length are an error, or left out");
  fields("hash", hash, "of the lines; set when a run begins, and a run whose lines have changed does not continue");
}

Jsonl::Jsonl(const TaskShape& shape, const JsonlOptions& options)
    : length_(shape.length), encoding_(make_encoding(options.tokenizer, "task.jsonl.tokenizer")), lines_(3) {
  require(options.prompt != options.answer, "task.jsonl.answer", options.answer, "must differ from task.jsonl.prompt");
  const PairSource source{files_of(options.files, "task.jsonl.files"),
                          {options.prompt, options.answer},
                          length_,
                          options.too_long == "skip"};
  pairs_ = pairs_of(source, *encoding_);
  require(options.hash.empty() || options.hash == data_hash(), "task.jsonl.hash", options.hash,
          fmt::format("must be {}, which is that of the files: they have changed since the run began", data_hash()));
  for (const Split split : {Split::train, Split::test, Split::validation}) {
    std::vector<int64_t>& lines = lines_[static_cast<size_t>(split)];
    for (size_t i = 0; i < pairs_->pairs.size(); ++i) {
      if (options.split == "all" || pairs_->pairs[i].split == split) lines.push_back(static_cast<int64_t>(i));
    }
    if (!lines.empty()) continue;
    refuse(
        "task.jsonl.files: none of the {} lines of {} that fit task.length belongs to the {} split, which gets one "
        "prompt in 16 (train: 14 in 16). Use more prompts, or set task.jsonl.split to all",
        pairs_->pairs.size(), join(options.files), to_string(split));
  }
}

std::string Jsonl::data_hash() const { return fmt::format("{:016x}", pairs_->hash); }

std::optional<int64_t> Jsonl::examples(Split split) const { return static_cast<int64_t>(lines_of(split).size()); }

Example Jsonl::example(int64_t seed, Split split, int64_t index) const {
  const int64_t count = *examples(split);
  const auto order =
      passes_.at(seed, split, index / count, [&](Random& random) { return random.distinct(count, count); });
  const int64_t line = lines_of(split)[static_cast<size_t>((*order)[static_cast<size_t>(index % count)])];
  const Pairs::Pair& pair = pairs_->pairs[static_cast<size_t>(line)];
  const auto prompt = pairs_->tokens.begin() + pair.begin, answer = prompt + pair.prompt;
  PromptAnswer tokens{{prompt, answer}, {answer, answer + pair.answer}};
  tokens.answer.push_back(end());
  Example row = answered_row(tokens, length_, pad(), pair.answer);
  for (const int64_t label : row.labels) {
    row.bytes.push_back(label == kNoTarget || label == end() ? 0 : static_cast<int64_t>(encoding_->text(label).size()));
  }
  return row;
}

std::string Jsonl::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("jsonl has no token {}: the ids are 0 to {}", id, pad());
  if (id == pad()) return "<pad>";
  return id == end() ? "<end>" : printed_bytes(encoding_->text(id));
}

TaskEntry jsonl_task() {
  return task_entry<Jsonl, JsonlOptions>("jsonl", "answer the prompts of your JSON Lines files");
}

}  // namespace klab
