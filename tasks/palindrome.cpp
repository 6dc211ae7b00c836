// SPDX-License-Identifier: Apache-2.0
#include "tasks/palindrome.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {

Palindrome::Palindrome(const TaskShape& shape) : shape_(shape) {
  require(shape.length >= 5, "task.length", fmt::format("{}", shape.length),
          "must be at least 5 for palindrome: two symbols, <sep>, two symbols");
  require(shape.vocab >= 2, "task.vocab", fmt::format("{}", shape.vocab),
          "must be at least 2 for palindrome: with one symbol every sequence is the same");
}

Example Palindrome::generate(Random& random) const {
  Example example;
  for (int64_t i = 0; i < items(); ++i) {
    example.append(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.vocab))));
  }
  const std::vector<int64_t> symbols = example.inputs;
  example.append(separator());
  for (int64_t i = items() - 1; i > 0; --i) {
    const int64_t target = i - 1;
    example.append(symbols[static_cast<size_t>(i)], symbols[static_cast<size_t>(target)], example.size() - target);
  }
  example.append(symbols[0]);
  if (example.size() < shape_.length) example.append(pad());
  return example;
}

std::string Palindrome::token_name(int64_t id) const {
  if (id == separator()) return "<sep>";
  if (id == pad()) return "<pad>";
  if (id < 0 || id > pad()) fail("palindrome has no token {}: the ids are 0 to {}", id, pad());
  return fmt::format("x{}", id);
}

TaskEntry palindrome_task() { return task_entry<Palindrome, PalindromeOptions>("palindrome", "reverse a sequence"); }

}  // namespace klab
