// SPDX-License-Identifier: Apache-2.0
// Brevo: all nodes of a graph that a node depends on, in an order in which they can be resolved.
#pragma once

#include "tasks/graph.h"
#include "tasks/task.h"

namespace klab {

struct BrevoOptions : GraphOptions {
  int64_t degree = 4;

  BrevoOptions() : GraphOptions(8) {}
  void visit(Fields& fields) override;
};

/// "Mental reasoning breadth" of the Canon suite (Allen-Zhu 2025, Physics of language models part 4.1, arXiv
/// 2512.17351). Inputs: <bos> x1 y1 x2 y2 .. xm ym <query> q <ans> a1 a2 .. ap <end>, then <pad>. An edge x y says that
/// y depends on x; the graph has no cycle. The answer is all nodes that q depends on, directly or not, each after those
/// that it depends on itself. The targets are the tokens after <ans>, including <end>. tasks/graph.h describes nodes
/// and names.
///
/// The graph: of n nodes in a row, the first L depend on none, with L uniform in 1 .. ceil((n - 1) / 4) + 1. Each other
/// node depends on 1 to `degree` of the nodes before it on which fewer than `degree` others depend so far, all drawn
/// uniformly. Edges are in random order, and q is uniform among the last ceil(n / 4) nodes of the row.
///
/// Published sizes: Brevo1 has names of one token and 70 to 110 nodes, Brevo2 task.vocab 4, names of 2 to 4 tokens and
/// 30 to 50 nodes; both are tested with min_nodes = nodes. Differences: the paper trains on a random order of the
/// answer and accepts any valid one. A target needs one right answer: here, of the nodes whose dependencies are all
/// listed, the one that is named first among the edges is next. And a row has one graph, where the paper fills its
/// window with several.
///
/// The split depends on the graph and the query, not on task.length. The difficulty is the number of nodes in the
/// answer.
class Brevo : public GeneratedTask {
 public:
  Brevo(const TaskShape& shape, const BrevoOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::vector<int64_t> split_key(const Example& example) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "nodes"; }
  std::optional<int64_t> end_token() const override { return end(); }

 private:
  int64_t bos() const { return nodes_.vocabulary(); }
  int64_t query() const { return bos() + 1; }
  int64_t ans() const { return bos() + 2; }
  int64_t end() const { return bos() + 3; }
  int64_t pad() const { return bos() + 4; }
  int64_t longest_row() const;

  TaskShape shape_;
  GraphNodes nodes_;
  int64_t degree_;
};

}  // namespace klab
