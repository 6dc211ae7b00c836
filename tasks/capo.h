// SPDX-License-Identifier: Apache-2.0
// Capo: the attributes of people, which only the weights can store: knowledge in bits per parameter.
#pragma once

#include "tasks/task.h"

namespace klab {

struct CapoOptions : Configurable {
  int64_t people = 1000, attributes = 6, values = 200, name_tokens = 3, table_seed = 0;

  void visit(Fields& fields) override;
};

/// "Knowledge capacity" of the Canon suite (Allen-Zhu 2025, Physics of language models part 4.1, arXiv 2512.17351; part
/// 3.3, arXiv 2404.05405). Inputs: biographies <bos> n9 n2 n7 a4 v4.17 a1 v1.5 .. of different people, drawn uniformly,
/// appended while one fits; <pad> fills the rest. n9 n2 n7 is the name of a person, `name_tokens` symbols; then follow
/// all `attributes` in random order, each with the person's value of it, v4.17 one of the values of a4. The target at
/// an attribute is its value, which is also an input; nobody is twice in a row, so no value can be read from it.
///
/// The table of people is the same in every example, in training and test, at every length: it depends only on
/// task.vocab and the options. Names are different, values are drawn uniformly and independently among `values` of each
/// attribute. The table thus has bits() = people * attributes * log2(values) bits, and a model whose loss is `loss`
/// nats per target has stored bits_stored(loss) of them; divided by the number of parameters, which `klab model`
/// prints, that is its knowledge in bits per parameter. A run of S steps shows each person S * train.batch *
/// biographies() / people times; the paper compares models after 100.
///
/// Simplified: biographies are attributes in random order, not paraphrased English, which changes capacities little
/// according to the paper; every attribute has the same number of values, each of one token (published: birth dates of
/// 12 x 28 x 200, 200 cities, 300 universities, 100 majors, 263 employers with their cities); and names are given, so
/// their bits do not count.
///
/// All values are equally difficult; the difficulty is always 1.
class Capo : public GeneratedTask {
 public:
  Capo(const TaskShape& shape, const CapoOptions& options);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "level"; }

  /// The bits of the table, without names.
  double bits() const;
  /// The bits of it that a model has stored whose loss is `loss` nats per target: what it needs less than a model that
  /// knows nothing, and at least 0.
  double bits_stored(double loss) const;
  /// The number of biographies in a row.
  int64_t biographies() const;

 private:
  // Token ids are the symbols of names, then these.
  int64_t attribute(int64_t number) const { return shape_.vocab + number; }
  int64_t value(int64_t number, int64_t of_attribute) const {
    return shape_.vocab + options_.attributes + of_attribute * options_.values + number;
  }
  int64_t bos() const { return value(0, options_.attributes); }
  int64_t pad() const { return bos() + 1; }
  int64_t biography_tokens() const { return 1 + options_.name_tokens + 2 * options_.attributes; }
  void append_biography(Example& example, int64_t person, Random& random) const;

  TaskShape shape_;
  CapoOptions options_;
  std::vector<std::vector<int64_t>> names_;  // by person
  std::vector<int64_t> table_;               // [people, attributes], row-major: token ids of values
};

}  // namespace klab
