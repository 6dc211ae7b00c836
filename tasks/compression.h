// SPDX-License-Identifier: Apache-2.0
// Compression: recall the symbol at a given position of a sequence.
#pragma once

#include "tasks/task.h"

namespace klab {

/// The compression task has no options.
struct CompressionOptions : Configurable {
  void visit(Fields&) override {}
};

/// Inputs x1 .. xn <compress>, then the position tokens p1 .. pn in random order, of n = (length - 1) / 2 symbols drawn
/// with replacement. The target at p(i) is x(i); the answers are not fed back. Even lengths end with <pad>.
///
/// A variant of the MAD task of that name (Poli et al. 2024, arXiv 2403.17844). In MAD, a small decoder network that
/// belongs to the task sees only the hidden state at <compress> and a position, so the whole sequence must be
/// compressed into one vector. Here the model itself answers, as in every klab task, from the states of its mixers. For
/// a recurrent mixer that is the same bottleneck: its state at <compress>. Attention still sees every symbol and has no
/// bottleneck.
///
/// Positions are tokens, so the vocabulary grows with task.length: a model trained at one length has no embedding for
/// the positions of longer sequences.
class Compression : public GeneratedTask {
 public:
  explicit Compression(const TaskShape& shape);

  int64_t vocabulary() const override { return pad() + 1; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  int64_t items() const { return (shape_.length - 1) / 2; }
  int64_t position(int64_t item) const { return shape_.vocab + item; }
  int64_t compress() const { return shape_.vocab + items(); }
  int64_t pad() const { return compress() + 1; }

  TaskShape shape_;
};

}  // namespace klab
