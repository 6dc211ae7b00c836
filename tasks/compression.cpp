// SPDX-License-Identifier: Apache-2.0
#include "tasks/compression.h"

#include <fmt/format.h>

#include "core/base/error.h"

namespace klab {

Compression::Compression(const TaskShape& shape) : shape_(shape) {
  require(shape.length >= 5, "task.length", fmt::format("{}", shape.length),
          "must be at least 5 for compression: two symbols, <compress>, two positions");
  require(shape.vocab >= 2, "task.vocab", fmt::format("{}", shape.vocab),
          "must be at least 2 for compression: with one symbol every sequence is the same");
}

Example Compression::generate(Random& random) const {
  Example example;
  for (int64_t i = 0; i < items(); ++i) {
    example.append(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.vocab))));
  }
  const std::vector<int64_t> symbols = example.inputs;
  example.append(compress());
  for (const int64_t queried : random.distinct(items(), items())) {
    example.append(position(queried), symbols[static_cast<size_t>(queried)], example.size() - queried);
  }
  if (example.size() < shape_.length) example.append(pad());
  return example;
}

std::string Compression::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("compression has no token {}: the ids are 0 to {}", id, pad());
  if (id == compress()) return "<compress>";
  if (id == pad()) return "<pad>";
  return id < shape_.vocab ? fmt::format("x{}", id) : fmt::format("p{}", id - shape_.vocab + 1);
}

TaskEntry compression_task() {
  return task_entry<Compression, CompressionOptions>("compression", "recall the symbol at a given position (MAD)");
}

}  // namespace klab
