// Copying: read a sequence, then say it again.
#pragma once

#include "tasks/task.h"

namespace klab {

/// The copy task has no options.
struct CopyOptions : Configurable {
  void visit(Fields&) override {}
};

/// Inputs x1 .. xn <sep> x1 .. xn, of n = (length - 1) / 2 symbols drawn with replacement. Under <sep> x1 is to be
/// predicted, and in the second half x(i+1) under x(i); nothing under the last xn: n targets, each n tokens after the
/// symbol stood first. So whoever is given all up to <sep> can go on by itself and be judged by what it says. An even
/// length has one position too many, which a closing <pad> fills.
class Copy : public Task {
 public:
  explicit Copy(const TaskShape& shape);

  int64_t vocabulary() const override { return shape_.vocab + 2; }
  Example generate(Random& random) const override;
  std::string token_name(int64_t id) const override;
  std::string difficulty_name() const override { return "gap"; }

 private:
  int64_t items() const { return (shape_.length - 1) / 2; }
  int64_t separator() const { return shape_.vocab; }
  // Part of the vocabulary at odd lengths too: a model of one length can then be asked at any other.
  int64_t pad() const { return shape_.vocab + 1; }

  TaskShape shape_;
};

}  // namespace klab
