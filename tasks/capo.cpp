// SPDX-License-Identifier: Apache-2.0
#include "tasks/capo.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>

#include "core/base/error.h"
#include "tasks/padding.h"

namespace klab {
namespace {

void check_names(const TaskShape& shape, const CapoOptions& options) {
  int64_t names = 1;
  for (int64_t i = 0; i < options.name_tokens && names < 2 * options.people; ++i) names *= shape.vocab;
  require(names >= 2 * options.people, "task.vocab", fmt::format("{}", shape.vocab),
          fmt::format("must be larger for capo: names of {} symbols must be able to name twice task.capo.people = {}, "
                      "but there are {}",
                      options.name_tokens, options.people, names));
}

// The symbols of `people` different names.
std::vector<std::vector<int64_t>> draw_names(const TaskShape& shape, const CapoOptions& options, Random& random) {
  std::set<std::vector<int64_t>> taken;
  std::vector<std::vector<int64_t>> names;
  while (static_cast<int64_t>(names.size()) < options.people) {
    std::vector<int64_t> name;
    for (int64_t i = 0; i < options.name_tokens; ++i) {
      name.push_back(static_cast<int64_t>(random.below(static_cast<uint64_t>(shape.vocab))));
    }
    if (taken.insert(name).second) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

void CapoOptions::visit(Fields& fields) {
  fields("people", people, {2, 1 << 24}, "people in the table");
  fields("attributes", attributes, {1, 1000}, "attributes of each person");
  fields("values", values, {2, 1 << 20}, "values that an attribute can have");
  fields("name_tokens", name_tokens, {1, 16}, "symbols of a name");
  fields("table_seed", table_seed, {0, std::numeric_limits<int64_t>::max()}, "seed of the table");
}

Capo::Capo(const TaskShape& shape, const CapoOptions& options) : shape_(shape), options_(options) {
  require(shape.length >= biography_tokens(), "task.length", fmt::format("{}", shape.length),
          fmt::format("must be at least {} for capo: a biography of {} attributes with a name of {} symbols",
                      biography_tokens(), options.attributes, options.name_tokens));
  check_names(shape, options);
  Random random{static_cast<uint64_t>(options.table_seed)};
  names_ = draw_names(shape, options, random);
  for (int64_t person = 0; person < options.people; ++person) {
    for (int64_t i = 0; i < options.attributes; ++i) {
      table_.push_back(value(static_cast<int64_t>(random.below(static_cast<uint64_t>(options.values))), i));
    }
  }
}

double Capo::bits() const {
  return static_cast<double>(table_.size()) * std::log2(static_cast<double>(options_.values));
}

double Capo::bits_stored(double loss) const {
  return std::max(0.0, bits() - static_cast<double>(table_.size()) * loss / std::numbers::ln2);
}

int64_t Capo::biographies() const { return std::min(shape_.length / biography_tokens(), options_.people); }

Example Capo::generate(Random& random) const {
  Example example;
  std::set<int64_t> taken;
  while (static_cast<int64_t>(taken.size()) < biographies()) {
    const auto person = static_cast<int64_t>(random.below(static_cast<uint64_t>(options_.people)));
    if (taken.insert(person).second) append_biography(example, person, random);
  }
  append_padding(example, shape_.length, pad());
  return example;
}

void Capo::append_biography(Example& example, int64_t person, Random& random) const {
  example.append(bos());
  for (const int64_t symbol : names_[static_cast<size_t>(person)]) example.append(symbol);
  for (const int64_t i : random.distinct(options_.attributes, options_.attributes)) {
    const int64_t known = table_[static_cast<size_t>(person * options_.attributes + i)];
    example.append(attribute(i), known, 1);
    example.append(known);
  }
}

std::string Capo::token_name(int64_t id) const {
  if (id < 0 || id > pad()) fail("capo has no token {}: the ids are 0 to {}", id, pad());
  if (id == bos()) return "<bos>";
  if (id == pad()) return "<pad>";
  if (id < attribute(0)) return fmt::format("n{}", id);
  if (id < value(0, 0)) return fmt::format("a{}", id - attribute(0));
  const int64_t known = id - value(0, 0);
  return fmt::format("v{}.{}", known / options_.values, known % options_.values);
}

TaskEntry capo_task() {
  return task_entry<Capo, CapoOptions>("capo", "memorise the attributes of people (Canon suite)");
}

}  // namespace klab
