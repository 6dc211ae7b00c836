// SPDX-License-Identifier: Apache-2.0
// What the tasks on graphs share: the number of nodes, and names of one or several tokens.
#pragma once

#include "tasks/task.h"

namespace klab {

struct GraphOptions : Configurable {
  int64_t nodes, min_nodes = 3, name_shortest = 1, name_longest = 1;

  explicit GraphOptions(int64_t most) : nodes(most) {}
  void visit(Fields& fields) override;
};

/// The nodes of the tasks depo and brevo (Allen-Zhu 2025, arXiv 2512.17351).
///
/// The number of nodes n is drawn in min_nodes .. nodes with probability proportional to 1 / (sqrt(nodes) + n), so that
/// small graphs come a little more often; the hardest have min_nodes = nodes.
///
/// The name of a node has name_shortest .. name_longest tokens, a number drawn uniformly, then the tokens are; no two
/// nodes of a graph have the same name. With name_longest = 1 a name is one of the symbols x0 x1 ..; otherwise it ends
/// with one of as many other symbols, z0 z1 .., so that a name's end can be told from the name.
class GraphNodes {
 public:
  using Name = std::vector<int64_t>;

  /// `task` is the task's name, for messages. Throws UsageError for options without enough names.
  GraphNodes(const std::string& task, const TaskShape& shape, const GraphOptions& options);

  int64_t most() const { return nodes_; }
  int64_t longest_name() const { return longest_; }
  /// The number of ids of tokens of names, which are 0, 1, ..
  int64_t vocabulary() const { return last_ + symbols_; }
  /// The names of a new graph's nodes.
  std::vector<Name> draw(Random& random) const;
  std::string token_name(int64_t id) const;

 private:
  int64_t draw_count(Random& random) const;
  Name draw_name(Random& random) const;

  int64_t nodes_, min_nodes_, shortest_, longest_;
  int64_t symbols_;
  int64_t last_;                         // id of the first symbol that ends a name
  std::vector<uint64_t> count_weights_;  // of the numbers of nodes, from min_nodes
};

}  // namespace klab
