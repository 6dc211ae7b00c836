// SPDX-License-Identifier: Apache-2.0
#include "tasks/brevo.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "tasks/prompt_answer.h"

namespace klab {
namespace {

using Nodes = std::vector<size_t>;

struct Edge {
  size_t from, to;  // `to` depends on `from`
};

size_t below(size_t n, Random& random) { return static_cast<size_t>(random.below(n)); }

void append_name(std::vector<int64_t>& tokens, const GraphNodes::Name& name) {
  tokens.insert(tokens.end(), name.begin(), name.end());
}

// `count` different elements of `all`, in random order.
template <class Element>
std::vector<Element> sample(const std::vector<Element>& all, size_t count, Random& random) {
  std::vector<Element> drawn;
  for (const int64_t i : random.distinct(static_cast<int64_t>(count), static_cast<int64_t>(all.size()))) {
    drawn.push_back(all[static_cast<size_t>(i)]);
  }
  return drawn;
}

// The edges of a graph, in random order; every node depends on nodes before it only.
std::vector<Edge> draw_edges(size_t nodes, size_t degree, Random& random) {
  const size_t leaves = 1 + below((nodes + 2) / 4 + 1, random);
  std::vector<size_t> dependents(nodes, 0);
  std::vector<Edge> edges;
  for (size_t to = leaves; to < nodes; ++to) {
    Nodes free;  // never empty: the nodes from `leaves` on have used at most `degree` places of the others each
    for (size_t from = 0; from < to; ++from) {
      if (dependents[from] < degree) free.push_back(from);
    }
    for (const size_t from : sample(free, 1 + below(std::min(degree, free.size()), random), random)) {
      edges.push_back({from, to});
      ++dependents[from];
    }
  }
  return sample(edges, edges.size(), random);
}

// Which nodes `query` depends on. Its edges are followed backwards from node to node.
std::vector<bool> dependencies(const std::vector<Edge>& edges, size_t nodes, size_t query) {
  std::vector<Nodes> needs(nodes);
  for (const Edge& edge : edges) needs[edge.to].push_back(edge.from);
  std::vector<bool> needed(nodes, false);
  for (Nodes open{query}; !open.empty();) {
    const size_t node = open.back();
    open.pop_back();
    for (const size_t from : needs[node]) {
      if (!needed[from]) open.push_back(from);
      needed[from] = true;
    }
  }
  return needed;
}

// The nodes in the order in which the edges name them.
Nodes order_of_mention(const std::vector<Edge>& edges, size_t nodes) {
  Nodes order;
  std::vector<bool> named(nodes, false);
  for (const Edge& edge : edges) {
    for (const size_t node : {edge.from, edge.to}) {
      if (!named[node]) order.push_back(node);
      named[node] = true;
    }
  }
  return order;
}

// The dependencies of `query`: always the first node in order of mention whose own dependencies are all listed.
Nodes resolve(const std::vector<Edge>& edges, size_t nodes, size_t query) {
  const std::vector<bool> needed = dependencies(edges, nodes, query);
  std::vector<size_t> waits_for(nodes, 0);
  for (const Edge& edge : edges) ++waits_for[edge.to];
  Nodes left, resolved;
  for (const size_t node : order_of_mention(edges, nodes)) {
    if (needed[node]) left.push_back(node);
  }
  while (!left.empty()) {
    const auto next = std::find_if(left.begin(), left.end(), [&](size_t node) { return waits_for[node] == 0; });
    resolved.push_back(*next);
    left.erase(next);
    for (const Edge& edge : edges) waits_for[edge.to] -= edge.from == resolved.back() ? 1 : 0;
  }
  return resolved;
}

}  // namespace

void BrevoOptions::visit(Fields& fields) {
  GraphOptions::visit(fields);
  fields("degree", degree, {1, 1 << 10}, "the most nodes that a node depends on, and that depend on it");
}

Brevo::Brevo(const TaskShape& shape, const BrevoOptions& options)
    : shape_(shape), nodes_("brevo", shape, options), degree_(options.degree) {
  const int64_t longest = longest_row();
  require(shape.length >= longest, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for brevo: the longest row with {} nodes of degree {} and names of up to {} "
                      "tokens",
                      longest, nodes_.most(), degree_, nodes_.longest_name()));
}

int64_t Brevo::longest_row() const {
  const int64_t marks = 4;  // <bos>, <query>, <ans>, <end>
  int64_t names = 0;        // of the edges, the query and the answer
  for (int64_t before = 1; before < nodes_.most(); ++before) names += 2 * std::min(degree_, before);
  names += 1 + nodes_.most() - 1;
  return names * nodes_.longest_name() + marks;
}

std::vector<int64_t> Brevo::split_key(const Example& example) const { return prompt_and_answer(example).prompt; }

Example Brevo::generate(Random& random) const {
  const std::vector<GraphNodes::Name> names = nodes_.draw(random);
  const size_t nodes = names.size();
  const std::vector<Edge> edges = draw_edges(nodes, static_cast<size_t>(degree_), random);
  const size_t queried = nodes - 1 - below((nodes + 3) / 4, random);
  PromptAnswer row{{bos()}, {}};
  for (const Edge& edge : edges) {
    append_name(row.prompt, names[edge.from]);
    append_name(row.prompt, names[edge.to]);
  }
  row.prompt.push_back(query());
  append_name(row.prompt, names[queried]);
  row.prompt.push_back(ans());
  const Nodes answer = resolve(edges, nodes, queried);
  for (const size_t node : answer) append_name(row.answer, names[node]);
  row.answer.push_back(end());
  return answered_row(row, shape_.length, pad(), static_cast<int64_t>(answer.size()));
}

std::string Brevo::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("brevo has no token {}: the ids are 0 to {}", id, pad());
  if (id < bos()) return nodes_.token_name(id);
  if (id == bos()) return "<bos>";
  if (id == query()) return "<query>";
  if (id == ans()) return "<ans>";
  return id == end() ? "<end>" : "<pad>";
}

TaskEntry brevo_task() {
  return task_entry<Brevo, BrevoOptions>("brevo", "list what a node of a graph depends on (Canon suite)");
}

}  // namespace klab
