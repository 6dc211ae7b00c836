// SPDX-License-Identifier: Apache-2.0
// Phonebook: look up numbers of several digits by name.
#pragma once

#include "tasks/task.h"

namespace klab {

struct PhonebookOptions : Configurable {
  int64_t entries = 0, digits = 4, queries = 4;

  void visit(Fields& fields) override;
};

/// After the phone book of Jelassi et al. 2024 (arXiv 2402.01032). Inputs: entries `name d1 d2 .. dk`, then <sep>, then
/// `queries` of them again, in random order: the first digit is the target at the name, each further one at the digit
/// before it; the number is also an input. <pad> fills the rest. A name is one symbol, the names of a row are
/// different, and numbers are drawn uniformly. Unlike the values of mqar, numbers have digits in common, and none of a
/// number's digits alone identifies it. In the paper, names and numbers are text, and one is queried.
///
/// The difficulty is the number of tokens since the digit was stored.
class Phonebook : public GeneratedTask {
 public:
  Phonebook(const TaskShape& shape, const PhonebookOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  static constexpr int64_t kDigits = 10;
  int64_t digit(int64_t number) const { return shape_.vocab + number; }
  int64_t separator() const { return digit(kDigits); }
  int64_t pad() const { return separator() + 1; }
  int64_t entry_tokens() const { return 1 + digits_; }
  // Appends the entry that begins at position `entry` once more, as a query.
  void append_query(Example& example, int64_t entry) const;

  TaskShape shape_;
  int64_t digits_, queries_, entries_;
};

}  // namespace klab
