// SPDX-License-Identifier: Apache-2.0
// Depo: the k-th successor of a node on a cycle that is given as shuffled edges.
#pragma once

#include "tasks/graph.h"
#include "tasks/task.h"

namespace klab {

struct DepoOptions : GraphOptions {
  int64_t hops = 4, min_hops = 1, queries = 10;

  DepoOptions() : GraphOptions(10) {}
  void visit(Fields& fields) override;
};

/// "Mental reasoning depth" of the Canon suite (Allen-Zhu 2025, Physics of language models part 4.1, arXiv 2512.17351).
/// Inputs: <bos> x1 y1 x2 y2 .. xn yn <query_k1> q1 <ans> a1 <query_k2> q2 <ans> a2 .., then <pad>. The pairs x y are
/// the edges of one cycle through all n nodes, in random order; min(`queries`, n) nodes q are drawn with replacement,
/// each with a k uniform in min_hops .. hops, and a is the k-th successor of q. The first token of a is the target at
/// <ans>, each further one at the token before it; the answer is also an input. tasks/graph.h describes nodes and
/// names.
///
/// Published sizes: Depo1 has task.vocab 50, names of 1 or 2 tokens, 225 to 375 nodes and 8 hops; Depo2 has task.vocab
/// 4, names of 5 to 7 tokens, 75 to 125 nodes and 16 hops; both are tested with min_nodes = nodes, and min_hops = hops
/// or half of it. Simplified: a row has one graph, where the paper fills 2048 tokens with several.
///
/// The difficulty is k.
class Depo : public GeneratedTask {
 public:
  Depo(const TaskShape& shape, const DepoOptions& options);

  int64_t vocabulary() const override { return query(hops_) + 1; }
  Example generate(Random& random) const override;
  std::vector<int64_t> split_key(const Example& example) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "hops"; }

 private:
  int64_t bos() const { return nodes_.vocabulary(); }
  int64_t ans() const { return bos() + 1; }
  int64_t pad() const { return bos() + 2; }
  // The last ids, so that those of all other tokens are the same for all numbers of hops.
  int64_t query(int64_t hops) const { return bos() + 2 + hops; }
  void append_edges(Example& example, const std::vector<GraphNodes::Name>& cycle, Random& random) const;
  void append_query(Example& example, const std::vector<GraphNodes::Name>& cycle, Random& random) const;

  TaskShape shape_;
  GraphNodes nodes_;
  int64_t hops_, min_hops_, queries_;
};

}  // namespace klab
