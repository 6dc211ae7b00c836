// Compression: read a sequence, then say which symbol stood at a given place of it.
#pragma once

#include "tasks/task.h"

namespace klab {

/// The compression task has no options.
struct CompressionOptions : Configurable {
  void visit(Fields&) override {}
};

/// Inputs x1 .. xn <compress>, then the places p1 .. pn in random order, of n = (length - 1) / 2 symbols drawn with
/// replacement. At p(i) x(i) is to be predicted; the answers are not fed back. An even length has one position too
/// many, which a closing <pad> fills.
///
/// It stands for the task of that name in MAD (Poli et al. 2024, arXiv 2403.17844) and is not the same. There a
/// decoder, a small network that belongs to the task, is given the hidden state at <compress> and a place, and
/// nothing else: all that it needs must have been squeezed into one vector. Here the model itself answers, as
/// everywhere in klab, and a query sees whatever the mixers kept. That is the same bottleneck for a recurrent mixer,
/// whose state at <compress> is all that it has; attention still sees every symbol, and is not bottlenecked.
///
/// Places are tokens, so the vocabulary grows with task.length: a model trained at one length has no embedding for
/// the places that only a longer one has.
class Compression : public Task {
 public:
  explicit Compression(const TaskShape& shape);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  int64_t items() const { return (shape_.length - 1) / 2; }
  int64_t place(int64_t item) const { return shape_.vocab + item; }
  int64_t compress() const { return shape_.vocab + items(); }
  int64_t pad() const { return compress() + 1; }

  TaskShape shape_;
};

}  // namespace klab
