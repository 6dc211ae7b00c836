// SPDX-License-Identifier: Apache-2.0
// The chunk form of the delta rule with momentum against its token-by-token form, whose equations the mixer's
// formulation test checks.
#include "kernels/momentum/momentum.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <limits>

#include "core/check/compare.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::MomentumInputs;
using torch::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<Tensor*> operands(MomentumInputs& in) {
  return {&in.q, &in.k, &in.v, &in.g, &in.log_mu, &in.beta, &in.eta, &in.initial_state};
}

// H = 2 query heads, HV = 4 value heads, K = 6, V = 5; `decay` scales both log-decays.
MomentumInputs random_inputs(int64_t B, int64_t T, double decay, int64_t sequences) {
  const auto wide = torch::kDouble;
  MomentumInputs in;
  in.q = torch::randn({B, T, 2, 6}, wide);
  in.k = kernels::l2norm(torch::randn({B, T, 2, 6}, wide));
  in.v = torch::randn({B, T, 4, 5}, wide);
  in.g = -decay * torch::rand({B, T, 4}, wide);
  in.log_mu = -decay * torch::rand({B, T, 4}, wide);
  in.beta = torch::rand({B, T, 4}, wide);
  in.eta = torch::rand({B, T, 4}, wide);
  in.initial_state = torch::randn({sequences, 4, 12, 5}, wide);
  return in;
}

void expect_close(const Tensor& actual, const Tensor& expected, const std::string& what, double allowed = 1e-11) {
  const Comparison result =
      compare(actual.detach().clone(), expected.detach(), {.of_element = allowed, .of_rms = allowed});
  EXPECT_TRUE(result.pass) << what << ": " << result.message;
}

struct Results {
  Tensor o, state;
  std::vector<Tensor> gradients;
};

Results run(MomentumInputs in, Implementation implementation) {
  for (Tensor* x : operands(in)) *x = x->detach().clone().requires_grad_();
  const kernels::MomentumOutputs out = kernels::momentum_delta_rule(in, implementation);
  ((out.o * torch::cos(torch::arange(out.o.numel(), out.o.options())).view(out.o.sizes())).sum() +
   out.final_state.square().sum())
      .backward();
  Results results{out.o, out.final_state, {}};
  for (Tensor* x : operands(in)) results.gradients.push_back(x->grad());
  return results;
}

void expect_forms_agree(const MomentumInputs& in, const std::string& what) {
  const Results expected = run(in, Implementation::reference), actual = run(in, Implementation::chunk);
  expect_close(actual.o, expected.o, what + ", o");
  expect_close(actual.state, expected.state, what + ", state");
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    expect_close(actual.gradients[i], expected.gradients[i], what + ", gradient " + std::to_string(i), 1e-9);
  }
}

TEST(MomentumDeltaRule, ChunkFormEqualsTheTokensInOrder) {
  for (const int64_t T : {1, 2, 16, 17, 33, 100}) {
    for (const double decay : {0.0, 0.3, 30.0}) {
      expect_forms_agree(random_inputs(2, T, decay, 2), "T " + std::to_string(T) + ", decay " + std::to_string(decay));
    }
  }
}

TEST(MomentumDeltaRule, HardResetsStayExact) {
  MomentumInputs in = random_inputs(1, 40, 0.1, 1);
  in.g.select(1, 9).fill_(-kInfinity);
  in.g.select(1, 20).fill_(-1000);
  in.log_mu.select(1, 13).fill_(-kInfinity);
  const auto forms = [&](Implementation form) { return kernels::momentum_delta_rule(in, form); };
  expect_close(forms(Implementation::chunk).o, forms(Implementation::reference).o, "o");
  expect_close(forms(Implementation::chunk).final_state, forms(Implementation::reference).final_state, "state");
}

TEST(MomentumDeltaRule, PackedSequencesAreSeparate) {
  MomentumInputs in = random_inputs(1, 41, 0.3, 3);
  in.cu_seqlens = torch::tensor({0, 5, 6, 41});
  expect_forms_agree(in, "packed");
  const kernels::MomentumOutputs packed = kernels::momentum_delta_rule(in);
  MomentumInputs last = in;
  for (Tensor* x : operands(last)) *x = x == &last.initial_state ? x->narrow(0, 2, 1) : x->narrow(1, 6, 35);
  last.cu_seqlens.reset();
  expect_close(packed.o.narrow(1, 6, 35), kernels::momentum_delta_rule(last).o, "last sequence");
}

TEST(MomentumDeltaRule, WithoutMomentumItIsTheDeltaRule) {
  MomentumInputs in = random_inputs(2, 50, 0.3, 2);
  in.log_mu.fill_(-kInfinity);
  kernels::RecurrenceInputs plain;
  plain.q = in.q;
  plain.k = in.k;
  plain.v = in.v;
  plain.g = in.g;
  plain.beta = in.beta * in.eta;
  plain.initial_state = in.initial_state.narrow(2, 0, 6).contiguous();
  expect_close(kernels::momentum_delta_rule(in).o, kernels::recurrence(plain).o, "o");
}

TEST(MomentumDeltaRule, NamesABadArgument) {
  const auto message = [](const auto& spoil) {
    MomentumInputs in = random_inputs(1, 4, 0.3, 1);
    spoil(in);
    try {
      kernels::momentum_delta_rule(in);
    } catch (const c10::ValueError& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_NE(message([](auto& in) { in.q.reset(); }).find("q is missing"), std::string::npos);
  EXPECT_NE(message([](auto& in) { in.eta = in.eta.narrow(1, 0, 3); }).find("eta"), std::string::npos);
  EXPECT_NE(message([](auto& in) { in.initial_state = in.initial_state.narrow(2, 0, 6); }).find("initial_state"),
            std::string::npos);
  EXPECT_THROW(kernels::momentum_delta_rule(random_inputs(1, 4, 0.3, 1), Implementation::cpu),
               c10::NotImplementedError);
}

}  // namespace
}  // namespace klab
