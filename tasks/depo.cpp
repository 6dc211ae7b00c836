// SPDX-License-Identifier: Apache-2.0
#include "tasks/depo.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {

void DepoOptions::visit(Fields& fields) {
  GraphOptions::visit(fields);
  fields("hops", hops, {1, 1 << 16}, "the most hops from the queried node to the answer");
  fields("min_hops", min_hops, {1, 1 << 16}, "the fewest; their number is uniform");
  fields("queries", queries, {1, 1 << 20}, "queries of a graph, unless it has fewer nodes");
}

Depo::Depo(const TaskShape& shape, const DepoOptions& options)
    : shape_(shape),
      nodes_("depo", shape, options),
      hops_(options.hops),
      min_hops_(options.min_hops),
      queries_(options.queries) {
  require(min_hops_ <= hops_, "task.depo.min_hops", fmt::format("{}", min_hops_),
          fmt::format("must be at most task.depo.hops = {}", hops_));
  const int64_t name = nodes_.longest_name(), most = nodes_.most();
  const int64_t longest = 1 + 2 * most * name + std::min(queries_, most) * (2 * name + 2);
  require(shape.length >= longest, "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for depo: the longest row with {} nodes, names of up to {} tokens and {} "
                      "queries",
                      longest, most, name, std::min(queries_, most)));
}

std::vector<int64_t> Depo::split_key(const Example& example) const { return without_padding(example, pad()); }

Example Depo::generate(Random& random) const {
  const std::vector<GraphNodes::Name> cycle = nodes_.draw(random);
  Example example;
  example.append(bos());
  append_edges(example, cycle, random);
  const auto nodes = static_cast<int64_t>(cycle.size());
  for (int64_t i = 0; i < std::min(queries_, nodes); ++i) append_query(example, cycle, random);
  append_padding(example, shape_.length, pad());
  return example;
}

void Depo::append_edges(Example& example, const std::vector<GraphNodes::Name>& cycle, Random& random) const {
  const auto nodes = static_cast<int64_t>(cycle.size());
  for (const int64_t from : random.distinct(nodes, nodes)) {
    for (const int64_t node : {from, (from + 1) % nodes}) {
      for (const int64_t token : cycle[static_cast<size_t>(node)]) example.append(token);
    }
  }
}

void Depo::append_query(Example& example, const std::vector<GraphNodes::Name>& cycle, Random& random) const {
  const uint64_t from = random.below(cycle.size());
  const int64_t hops = min_hops_ + static_cast<int64_t>(random.below(static_cast<uint64_t>(hops_ - min_hops_ + 1)));
  example.append(query(hops));
  for (const int64_t token : cycle[from]) example.append(token);
  int64_t input = ans();
  for (const int64_t token : cycle[(from + static_cast<uint64_t>(hops)) % cycle.size()]) {
    example.append(input, token, hops);
    input = token;
  }
  example.append(input);
}

std::string Depo::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("depo has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  if (id < bos()) return nodes_.token_name(id);
  if (id == bos()) return "<bos>";
  if (id == ans()) return "<ans>";
  if (id == pad()) return "<pad>";
  return fmt::format("<query_{}>", id - pad());
}

TaskEntry depo_task() {
  return task_entry<Depo, DepoOptions>("depo", "follow k edges of a shuffled cycle (Canon suite)");
}

}  // namespace klab
