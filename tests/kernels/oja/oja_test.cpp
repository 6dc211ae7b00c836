// SPDX-License-Identifier: Apache-2.0
// The chunk form of the rule of Oja against its token-by-token form, whose equations the mixer's
// formulation test checks.
#include "kernels/oja/oja.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <limits>

#include "core/check/compare.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::OjaInputs;
using torch::Tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<Tensor*> operands(OjaInputs& in) { return {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.initial_state}; }

// H = 2 query heads, HV = 4 value heads, K = 6, V = 5; `decay` scales the log-decays.
OjaInputs random_inputs(int64_t B, int64_t T, double decay, int64_t sequences) {
  const auto wide = torch::kDouble;
  OjaInputs in;
  in.q = torch::randn({B, T, 2, 6}, wide);
  in.k = torch::randn({B, T, 2, 6}, wide);
  in.v = kernels::l2norm(torch::randn({B, T, 4, 5}, wide));
  in.g = -decay * torch::rand({B, T, 4, 5}, wide);
  in.beta = torch::rand({B, T, 4}, wide);
  in.initial_state = torch::randn({sequences, 4, 6, 5}, wide);
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

Results run(OjaInputs in, Implementation implementation) {
  for (Tensor* x : operands(in)) *x = x->detach().clone().requires_grad_();
  const kernels::OjaOutputs out = kernels::oja_rule(in, implementation);
  ((out.o * torch::cos(torch::arange(out.o.numel(), out.o.options())).view(out.o.sizes())).sum() +
   out.final_state.square().sum())
      .backward();
  Results results{out.o, out.final_state, {}};
  for (Tensor* x : operands(in)) results.gradients.push_back(x->grad());
  return results;
}

void expect_forms_agree(const OjaInputs& in, const std::string& what) {
  const Results expected = run(in, Implementation::reference), actual = run(in, Implementation::chunk);
  expect_close(actual.o, expected.o, what + ", o");
  expect_close(actual.state, expected.state, what + ", state");
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    expect_close(actual.gradients[i], expected.gradients[i], what + ", gradient " + std::to_string(i), 1e-9);
  }
}

TEST(OjaRule, ChunkFormEqualsTheTokensInOrder) {
  for (const int64_t T : {1, 2, 16, 17, 33, 100}) {
    for (const double decay : {0.0, 0.3, 30.0}) {
      expect_forms_agree(random_inputs(2, T, decay, 2), "T " + std::to_string(T) + ", decay " + std::to_string(decay));
    }
  }
}

TEST(OjaRule, HardResetsStayExact) {
  OjaInputs in = random_inputs(1, 40, 0.1, 1);
  in.g.select(1, 9).fill_(-kInfinity);
  in.g.select(1, 20).fill_(-1000);
  const auto forms = [&](Implementation form) { return kernels::oja_rule(in, form); };
  expect_close(forms(Implementation::chunk).o, forms(Implementation::reference).o, "o");
  expect_close(forms(Implementation::chunk).final_state, forms(Implementation::reference).final_state, "state");
}

TEST(OjaRule, PackedSequencesAreSeparate) {
  OjaInputs in = random_inputs(1, 41, 0.3, 3);
  in.cu_seqlens = torch::tensor({0, 5, 6, 41});
  expect_forms_agree(in, "packed");
  const kernels::OjaOutputs packed = kernels::oja_rule(in);
  OjaInputs last = in;
  for (Tensor* x : operands(last)) *x = x == &last.initial_state ? x->narrow(0, 2, 1) : x->narrow(1, 6, 35);
  last.cu_seqlens.reset();
  expect_close(packed.o.narrow(1, 6, 35), kernels::oja_rule(last).o, "last sequence");
}

// The state is that of the recurrence with keys and values exchanged, transposed.
TEST(OjaRule, ItsStateIsThatOfTheDeltaRule) {
  OjaInputs in = random_inputs(2, 50, 0.3, 2);
  in.q = in.q.repeat_interleave(2, 2);
  in.k = in.k.repeat_interleave(2, 2);
  kernels::RecurrenceInputs exchanged;
  exchanged.q = exchanged.k = in.v;
  exchanged.v = in.k;
  exchanged.g = in.g;
  exchanged.beta = in.beta;
  exchanged.initial_state = in.initial_state.transpose(2, 3).contiguous();
  expect_close(kernels::oja_rule(in).final_state, kernels::recurrence(exchanged).final_state.transpose(2, 3), "state");
}

TEST(OjaRule, NamesABadArgument) {
  const auto message = [](const auto& spoil) {
    OjaInputs in = random_inputs(1, 4, 0.3, 1);
    spoil(in);
    try {
      kernels::oja_rule(in);
    } catch (const c10::ValueError& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_NE(message([](auto& in) { in.q.reset(); }).find("q is missing"), std::string::npos);
  EXPECT_NE(message([](auto& in) { in.beta = in.beta.narrow(1, 0, 3); }).find("beta"), std::string::npos);
  EXPECT_NE(message([](auto& in) { in.initial_state = in.initial_state.narrow(2, 0, 5); }).find("initial_state"),
            std::string::npos);
  EXPECT_THROW(kernels::oja_rule(random_inputs(1, 4, 0.3, 1), Implementation::cpu), c10::NotImplementedError);
}

}  // namespace
}  // namespace klab
