// SPDX-License-Identifier: Apache-2.0
#include "tasks/phonebook.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {
namespace {

// The number of entries. Throws UsageError when they do not fit.
int64_t checked_entries(const TaskShape& shape, const PhonebookOptions& options) {
  const int64_t tokens = 1 + options.digits, most = (shape.length - 1) / tokens - options.queries;
  require(most >= std::max(options.entries, options.queries), "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for phonebook: {} entries, <sep> and {} queries of {} tokens each",
                      (std::max(options.entries, options.queries) + options.queries) * tokens + 1,
                      std::max(options.entries, options.queries), options.queries, tokens));
  const int64_t entries = options.entries == 0 ? most : options.entries;
  require(options.queries <= entries, "task.phonebook.queries", fmt::format("{}", options.queries),
          fmt::format("must be at most task.phonebook.entries = {}: every name is queried once at most", entries));
  require(shape.vocab >= entries, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be at least {} for phonebook: each entry has a name of its own", entries));
  return entries;
}

}  // namespace

void PhonebookOptions::visit(Fields& fields) {
  fields("entries", entries, {0, 1 << 24}, "names with numbers; 0: as many as fit");
  fields("digits", digits, {1, 1000}, "digits of a number");
  fields("queries", queries, {1, 1 << 24}, "names that are looked up");
}

Phonebook::Phonebook(const TaskShape& shape, const PhonebookOptions& options)
    : shape_(shape), digits_(options.digits), queries_(options.queries), entries_(checked_entries(shape, options)) {}

Example Phonebook::generate(Random& random) const {
  Example example;
  for (const int64_t name : random.distinct(entries_, shape_.vocab)) {
    example.append(name);
    for (int64_t i = 0; i < digits_; ++i) example.append(digit(static_cast<int64_t>(random.below(kDigits))));
  }
  example.append(separator());
  for (const int64_t entry : random.distinct(queries_, entries_)) append_query(example, entry * entry_tokens());
  append_padding(example, shape_.length, pad());
  return example;
}

void Phonebook::append_query(Example& example, int64_t entry) const {
  const int64_t gap = example.size() - entry - 1;  // from each digit to where it is the target
  for (int64_t i = 0; i < digits_; ++i) {
    const auto token = static_cast<size_t>(entry + i);
    example.append(example.inputs[token], example.inputs[token + 1], gap);
  }
  example.append(example.inputs[static_cast<size_t>(entry + digits_)]);
}

std::string Phonebook::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("phonebook has no token {}: the ids are 0 to {}", id, pad());
  if (id == separator()) return "<sep>";
  if (id == pad()) return "<pad>";
  return id < shape_.vocab ? fmt::format("n{}", id) : fmt::format("{}", id - digit(0));
}

TaskEntry phonebook_task() {
  return task_entry<Phonebook, PhonebookOptions>("phonebook", "look up numbers of several digits by name");
}

}  // namespace klab
