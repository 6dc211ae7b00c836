// SPDX-License-Identifier: Apache-2.0
#include "tasks/stack.h"

#include <fmt/format.h>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {
namespace {

// The stacks during generation.
class Stacks {
 public:
  struct Item {
    int64_t element, position;
  };

  explicit Stacks(int64_t count) : items_(static_cast<size_t>(count)) {}

  bool all_empty() const { return filled_.empty(); }
  int64_t draw_any(Random& random) const { return static_cast<int64_t>(random.below(items_.size())); }
  // The index in `filled_` of a random non-empty stack.
  size_t draw_filled(Random& random) const { return random.below(filled_.size()); }
  int64_t filled(size_t index) const { return filled_[index]; }

  void push(int64_t stack, Item item) {
    std::vector<Item>& items = items_[static_cast<size_t>(stack)];
    if (items.empty()) filled_.push_back(stack);
    items.push_back(item);
  }

  Item pop(size_t index) {
    std::vector<Item>& items = items_[static_cast<size_t>(filled_[index])];
    const Item top = items.back();
    items.pop_back();
    if (items.empty()) {
      filled_[index] = filled_.back();
      filled_.pop_back();
    }
    return top;
  }

 private:
  std::vector<std::vector<Item>> items_;
  std::vector<int64_t> filled_;  // the non-empty stacks, unordered
};

// Far above any trainable size.
constexpr int64_t kMostStacks = int64_t{1} << 24;

}  // namespace

void StackOptions::visit(Fields& fields) {
  fields("stacks", stacks, {1, kMostStacks}, "number of stacks");
  fields("pop_probability", pop_probability, {0, 1, Ends::above_least},
         "probability of a pop while any stack is not empty");
}

Stack::Stack(const TaskShape& shape, const StackOptions& options)
    : shape_(shape), stacks_(options.stacks), pop_probability_(options.pop_probability) {
  require(shape.length >= 6, "task.length", fmt::format("{}", shape.length),
          "must be at least 6 for stack: one push and one pop of three tokens");
  require(shape.vocab >= 2, "task.vocab", fmt::format("{}", shape.vocab),
          "must be at least 2 for stack: with one element every pop returns the same");
}

Example Stack::generate(Random& random) const {
  Example example;
  Stacks stacks(stacks_);
  bool popped = false;
  const int64_t operations = shape_.length / 3;
  for (int64_t operation = 1; operation <= operations; ++operation) {
    // Without a pop so far all operations were pushes, so a stack is not empty.
    const bool forced = operation == operations && !popped;
    if (!stacks.all_empty() && (random.uniform() < pop_probability_ || forced)) {
      const size_t index = stacks.draw_filled(random);
      const int64_t stack = stacks.filled(index);
      const Stacks::Item top = stacks.pop(index);
      example.append(pop());
      example.append(stack_id(stack), top.element, example.size() - top.position);
      example.append(top.element);
      popped = true;
    } else {
      const int64_t stack = stacks.draw_any(random);
      const auto element = static_cast<int64_t>(random.below(static_cast<uint64_t>(shape_.vocab)));
      example.append(push());
      example.append(stack_id(stack));
      stacks.push(stack, {element, example.size()});
      example.append(element);
    }
  }
  append_padding(example, shape_.length, pad());
  return example;
}

std::string Stack::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("stack has no token {}: the ids are 0 to {}", id, pad());
  if (id == push()) return "<push>";
  if (id == pop()) return "<pop>";
  if (id == pad()) return "<pad>";
  return id < shape_.vocab ? fmt::format("e{}", id) : fmt::format("s{}", id - shape_.vocab);
}

TaskEntry stack_task() {
  return task_entry<Stack, StackOptions>("stack", "predict what each pop returns, on many stacks");
}

}  // namespace klab
