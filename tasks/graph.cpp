// SPDX-License-Identifier: Apache-2.0
#include "tasks/graph.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>
#include <set>

namespace klab {
namespace {

constexpr int64_t kMostNodes = 1 << 20;

// How many names there are, up to some more than `enough`.
int64_t count_names(int64_t symbols, int64_t shortest, int64_t longest, int64_t enough) {
  int64_t names = 0;
  for (int64_t tokens = shortest; tokens <= longest && names < enough; ++tokens) {
    int64_t of_length = 1;
    for (int64_t i = 0; i < tokens && of_length < enough; ++i) of_length *= symbols;
    names += of_length;
  }
  return names;
}

}  // namespace

void GraphOptions::visit(Fields& fields) {
  fields("nodes", nodes, {3, kMostNodes}, "the most nodes of a graph");
  fields("min_nodes", min_nodes, {3, kMostNodes}, "the fewest; few are a little more likely than many");
  fields("name_shortest", name_shortest, {1, 16}, "the fewest tokens of a node's name");
  fields("name_longest", name_longest, {1, 16}, "the most; above 1 names end with a symbol of their own kind");
}

GraphNodes::GraphNodes(const std::string& task, const TaskShape& shape, const GraphOptions& options)
    : nodes_(options.nodes),
      min_nodes_(options.min_nodes),
      shortest_(options.name_shortest),
      longest_(options.name_longest),
      symbols_(shape.vocab),
      last_(options.name_longest > 1 ? shape.vocab : 0) {
  require(min_nodes_ <= nodes_, fmt::format("task.{}.min_nodes", task), fmt::format("{}", min_nodes_),
          fmt::format("must be at most task.{}.nodes = {}", task, nodes_));
  require(shortest_ <= longest_, fmt::format("task.{}.name_shortest", task), fmt::format("{}", shortest_),
          fmt::format("must be at most task.{}.name_longest = {}", task, longest_));
  const int64_t names = count_names(symbols_, shortest_, longest_, nodes_);
  require(names >= nodes_, "task.vocab", fmt::format("{}", symbols_),
          fmt::format("must be larger for {}: it gives {} names of {} to {} tokens, but there are up to {} nodes", task,
                      names, shortest_, longest_, nodes_));
  // Integers, so that draws are the same on every machine.
  for (int64_t count = min_nodes_; count <= nodes_; ++count) {
    const double weight = 1 / (std::sqrt(static_cast<double>(nodes_)) + static_cast<double>(count));
    count_weights_.push_back(static_cast<uint64_t>(std::llround(weight * 0x1p32)));
  }
}

int64_t GraphNodes::draw_count(Random& random) const {
  uint64_t rest = random.below(std::accumulate(count_weights_.begin(), count_weights_.end(), uint64_t{0}));
  int64_t count = min_nodes_;
  for (const uint64_t weight : count_weights_) {
    if (rest < weight) break;
    rest -= weight;
    ++count;
  }
  return count;
}

GraphNodes::Name GraphNodes::draw_name(Random& random) const {
  const auto symbol = [&] { return static_cast<int64_t>(random.below(static_cast<uint64_t>(symbols_))); };
  const int64_t tokens =
      shortest_ + static_cast<int64_t>(random.below(static_cast<uint64_t>(longest_ - shortest_ + 1)));
  Name name;
  for (int64_t i = 1; i < tokens; ++i) name.push_back(symbol());
  name.push_back(last_ + symbol());
  return name;
}

std::vector<GraphNodes::Name> GraphNodes::draw(Random& random) const {
  const auto count = static_cast<size_t>(draw_count(random));
  std::vector<Name> names;
  std::set<Name> taken;
  while (names.size() < count) {
    Name name = draw_name(random);
    if (taken.insert(name).second) names.push_back(std::move(name));
  }
  return names;
}

std::string GraphNodes::token_name(int64_t id) const {
  return id < last_ || last_ == 0 ? fmt::format("x{}", id) : fmt::format("z{}", id - last_);
}

}  // namespace klab
