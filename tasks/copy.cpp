// SPDX-License-Identifier: Apache-2.0
#include "tasks/copy.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {

Copy::Copy(const TaskShape& shape) : shape_(shape) {
  require(shape.length >= 5, "task.length", fmt::format("{}", shape.length),
          "must be at least 5 for copy: two symbols, <sep>, two symbols");
  require(shape.vocab >= 2, "task.vocab", fmt::format("{}", shape.vocab),
          "must be at least 2 for copy: with one symbol every sequence is the same");
}

Example Copy::generate(Random& random) const {
  Example example;
  for (int64_t i = 0; i < items(); ++i) {
    example.append(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.vocab))));
  }
  const std::vector<int64_t> symbols = example.inputs;
  int64_t input = separator();
  for (const int64_t symbol : symbols) {
    example.append(input, symbol, items());
    input = symbol;
  }
  example.append(input);
  if (example.size() < shape_.length) example.append(pad());
  return example;
}

std::string Copy::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("copy has no token {}: the ids are 0 to {}", id, pad());
  if (id == separator()) return "<sep>";
  if (id == pad()) return "<pad>";
  return fmt::format("x{}", id);
}

TaskEntry copy_task() { return task_entry<Copy, CopyOptions>("copy", "repeat a sequence"); }

}  // namespace klab
