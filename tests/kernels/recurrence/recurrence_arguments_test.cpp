// SPDX-License-Identifier: Apache-2.0
// Every wrong argument raises an error that names it.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "kernels/common/support.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::RecurrenceInputs;

RecurrenceInputs valid() {
  RecurrenceInputs in;
  in.q = at::ones({1, 6, 2, 4});
  in.k = at::ones({1, 6, 2, 4});
  in.v = at::ones({1, 6, 4, 3});
  in.g = -at::ones({1, 6, 4, 4});
  in.beta = at::ones({1, 6, 4});
  in.initial_state = at::ones({1, 4, 4, 3});
  return in;
}

// Linear attention without optional inputs.
RecurrenceInputs plain(at::IntArrayRef q_and_k, at::IntArrayRef v) {
  RecurrenceInputs in;
  in.q = at::ones(q_and_k);
  in.k = at::ones(q_and_k);
  in.v = at::ones(v);
  return in;
}

void expect_refused_after(const std::string& argument, const std::function<void(RecurrenceInputs&)>& change) {
  RecurrenceInputs in = valid();
  change(in);
  expect_refused("recurrence", argument, [&] { kernels::recurrence(in); });
}

TEST(RecurrenceArguments, TheUnchangedOnesAreTaken) { EXPECT_NO_THROW(kernels::recurrence(valid())); }

TEST(RecurrenceArguments, MissingTensors) {
  expect_refused_after("q", [](auto& in) { in.q = at::Tensor(); });
  expect_refused_after("k is missing", [](auto& in) { in.k = at::Tensor(); });
  expect_refused_after("v is missing", [](auto& in) { in.v = at::Tensor(); });
}

TEST(RecurrenceArguments, WrongShapes) {
  expect_refused_after("q has shape", [](auto& in) { in.q = at::ones({6, 2, 4}); });
  expect_refused_after("k has shape", [](auto& in) { in.k = at::ones({1, 6, 1, 4}); });
  expect_refused_after("k has shape", [](auto& in) { in.k = at::ones({1, 5, 2, 4}); });
  expect_refused_after("v has shape", [](auto& in) { in.v = at::ones({1, 7, 4, 3}); });
  expect_refused_after("v has shape", [](auto& in) { in.v = at::ones({2, 6, 4, 3}); });
  expect_refused_after("g has shape", [](auto& in) { in.g = at::ones({1, 6, 2}); });
  expect_refused_after("g has shape", [](auto& in) { in.g = at::ones({1, 6, 4, 3}); });
  expect_refused_after("g has shape", [](auto& in) { in.g = at::ones({6}); });
  expect_refused_after("beta has shape", [](auto& in) { in.beta = at::ones({1, 6, 2}); });
  expect_refused_after("initial_state has shape", [](auto& in) { in.initial_state = at::ones({2, 4, 4, 3}); });
  expect_refused_after("initial_state has shape", [](auto& in) { in.initial_state = at::ones({1, 4, 3, 4}); });
}

TEST(RecurrenceArguments, HeadsThatDoNotDivide) {
  for (const int64_t HV : {1, 3, 0}) {
    expect_refused_after("heads", [&](auto& in) { in = plain({1, 6, 2, 4}, {1, 6, HV, 3}); });
  }
}

TEST(RecurrenceArguments, SizesOutOfRange) {
  const auto sized = [](int64_t T, int64_t K, int64_t V) {
    return [=](auto& in) { in = plain({1, T, 1, K}, {1, T, 1, V}); };
  };
  expect_refused_after("at least one token", sized(0, 4, 4));
  expect_refused_after("at least one token", [](auto& in) { in = plain({0, 2, 1, 4}, {0, 2, 1, 4}); });
  expect_refused_after("K = 257", sized(2, 257, 4));
  expect_refused_after("V = 257", sized(2, 4, 257));
  expect_refused_after("K = 0", sized(2, 0, 4));
  expect_refused_after("V = 0", sized(2, 4, 0));
}

TEST(RecurrenceArguments, WrongDtypes) {
  expect_refused_after("q has dtype", [](auto& in) { in.q = in.q.to(at::kLong); });
  expect_refused_after("k has dtype", [](auto& in) { in.k = in.k.to(at::kInt); });
  expect_refused_after("v has dtype", [](auto& in) { in.v = in.v.to(at::kComplexFloat); });
  expect_refused_after("g has dtype", [](auto& in) { in.g = in.g.to(at::kLong); });
  expect_refused_after("beta has dtype", [](auto& in) { in.beta = in.beta.to(at::kBool); });
  expect_refused_after("initial_state has dtype", [](auto& in) { in.initial_state = in.initial_state.to(at::kLong); });
}

TEST(RecurrenceArguments, HalfADplr) {
  const at::Tensor a = at::ones({1, 6, 4, 4});
  expect_refused_after("only a is given", [&](auto& in) { in.beta = at::Tensor(), in.a = a; });
  expect_refused_after("only b is given", [&](auto& in) { in.beta = at::Tensor(), in.b = a; });
  expect_refused_after("beta", [&](auto& in) { in.a = a, in.b = a.clone(); });
  expect_refused_after("a has shape", [&](auto& in) {
    in.beta = at::Tensor(), in.a = at::ones({1, 6, 2, 4}), in.b = a;
  });
  expect_refused_after("b has shape", [&](auto& in) {
    in.beta = at::Tensor(), in.a = a, in.b = at::ones({1, 6, 4, 3});
  });
}

TEST(RecurrenceArguments, WrongOffsets) {
  const auto offsets = [](std::vector<int64_t> values) {
    return [values](auto& in) { in.cu_seqlens = at::tensor(values, at::kLong), in.initial_state = at::Tensor(); };
  };
  expect_refused_after("cu_seqlens", offsets({}));
  expect_refused_after("cu_seqlens", offsets({0}));
  expect_refused_after("cu_seqlens must run from 0", offsets({1, 6}));
  expect_refused_after("cu_seqlens must run from 0", offsets({0, 5}));
  expect_refused_after("cu_seqlens must run from 0", offsets({0, 7}));
  expect_refused_after("cu_seqlens must rise", offsets({0, 4, 3, 6}));
  expect_refused_after("cu_seqlens must rise", offsets({0, 3, 3, 6}));
  expect_refused_after("cu_seqlens", [](auto& in) { in.cu_seqlens = at::tensor({0.0, 6.0}); });
  expect_refused_after("cu_seqlens", [](auto& in) { in.cu_seqlens = at::tensor({0, 6}, at::kLong).view({1, 2}); });
  expect_refused_after("batch", [](auto& in) {
    in = plain({2, 6, 1, 4}, {2, 6, 1, 3});
    in.cu_seqlens = at::tensor({0, 6}, at::kLong);
  });
  expect_refused_after("initial_state has shape", [](auto& in) { in.cu_seqlens = at::tensor({0, 2, 6}, at::kLong); });
}

TEST(RecurrenceArguments, Int32OffsetsAreTaken) {
  RecurrenceInputs in = valid();
  in.initial_state = at::Tensor();
  in.cu_seqlens = at::tensor({0, 2, 6}, at::kInt);
  EXPECT_EQ(kernels::recurrence(in).final_state.size(0), 2);
}

TEST(RecurrenceArguments, AnImplementationThatCannotRunIsRefusedNotReplaced) {
  for (const Implementation missing : {Implementation::cuda, Implementation::composed}) {
    EXPECT_THROW(kernels::recurrence(valid(), missing), c10::NotImplementedError);
  }
  RecurrenceInputs wide = valid();
  for (at::Tensor* x : {&wide.q, &wide.k, &wide.v, &wide.g, &wide.beta, &wide.initial_state}) {
    if (x->defined()) *x = x->to(at::kDouble);
  }
  EXPECT_THROW(kernels::recurrence(wide, Implementation::cpu), c10::NotImplementedError);
  EXPECT_NO_THROW(kernels::recurrence(wide));
}

TEST(RecurrenceArguments, WhatALayerDoesFirstNeedsItsInputs) {
  expect_refused_after("a gate needs g", [](auto& in) {
    in.g = at::Tensor();
    in.gate = kernels::RecurrenceGate{at::zeros({in.v.size(2)}), {}, {}};
  });
  expect_refused_after("A_log is missing", [](auto& in) { in.gate = kernels::RecurrenceGate{}; });
  expect_refused_after("A_log has shape", [](auto& in) { in.gate = kernels::RecurrenceGate{at::zeros({77}), {}, {}}; });
  expect_refused_after("lower_bound = -9", [](auto& in) { in.gate = kernels::RecurrenceGate{{}, {}, -9.0}; });
  expect_refused_after("beta_sigmoid is given", [](auto& in) {
    in.beta = at::Tensor();
    in.beta_sigmoid = true;
  });
  expect_refused_after("writes is 0", [](auto& in) { in.writes = 0; });
  expect_refused_after("k has shape", [](auto& in) { in.writes = 2; });
  expect_refused_after("allow_neg_eigval", [](auto& in) { in.allow_neg_eigval = true; });
}

}  // namespace
}  // namespace klab
