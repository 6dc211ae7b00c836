// SPDX-License-Identifier: Apache-2.0
// Properties of the recurrence that every implementation must have.
#include "kernels/recurrence/recurrence.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "core/check/inputs.h"
#include "kernels/common/support.h"
#include "kernels/recurrence/oracle.h"

namespace klab {
namespace {

using kernels::Implementation;

// An operator case with one implementation.
struct Subject {
  OperatorCase operator_case;
  Implementation implementation;

  bool in_float64;

  NamedFunction run() const { return runner(operator_case, implementation); }
  at::ScalarType dtype() const { return in_float64 ? at::kDouble : at::kFloat; }
  /// Inputs in the widest dtype that the implementation supports.
  NamedTensors inputs(const Workload& workload, uint64_t seed) const {
    return copy_as(operator_case, operator_case.inputs(workload, seed), dtype(), at::kCPU);
  }
  /// Tolerance for the same sums in another order, over a few hundred terms.
  Tolerance rounding() const {
    return in_float64 ? tight() : derived_tolerance({.sums = at::kFloat, .result = at::kFloat, .terms = 256});
  }
};

// All cases and forms whose name (decay/update) does not contain any of `without`.
std::vector<Subject> subjects(const std::vector<std::string>& without = {}) {
  std::vector<Subject> all;
  for (const OperatorCase& entry : recurrence_cases()) {
    const auto excluded = [&](const std::string& part) { return entry.name.find(part) != std::string::npos; };
    if (std::any_of(without.begin(), without.end(), excluded)) continue;
    for (const Form& form : entry.forms) {
      if (form.on_cpu) all.push_back({entry, form.implementation, form.in_float64});
    }
  }
  return all;
}

std::string name_of(const testing::TestParamInfo<Subject>& info) {
  std::string name = info.param.operator_case.name.substr(std::string("recurrence/").size()) + "_" +
                     to_string(info.param.implementation);
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

// Whether the second dimension of this input is time.
bool is_timed(const std::string& name) {
  const std::vector<std::string> others{"initial_state", "cu_seqlens",  "A_log",
                                        "dt_bias",       "lower_bound", "overwrite_state"};
  return std::find(others.begin(), others.end(), name) == others.end();
}

// Tokens [first, first + count) of a tensor of T tokens, which may have several rows for each.
at::Tensor tokens(const at::Tensor& x, int64_t first, int64_t count, int64_t T) {
  const int64_t rows = x.size(1) / T;
  return x.narrow(1, first * rows, count * rows);
}

// Tokens [first, first + count) of every input that has a time dimension.
NamedTensors tokens(const NamedTensors& in, int64_t first, int64_t count) {
  const int64_t T = find(in, "q").size(1);
  NamedTensors part;
  for (const auto& [name, tensor] : in) {
    part.push_back({name, is_timed(name) ? tokens(tensor, first, count, T) : tensor});
  }
  return part;
}

void expect_all_finite(const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
}

class Recurrences : public testing::TestWithParam<Subject> {};

INSTANTIATE_TEST_SUITE_P(Family, Recurrences, testing::ValuesIn(subjects()), name_of);

class DecayingRecurrences : public Recurrences {};

INSTANTIATE_TEST_SUITE_P(Family, DecayingRecurrences, testing::ValuesIn(subjects({"none", "raw", "bounded"})), name_of);

// Without DPLR, whose `a` reads the undecayed state, so a reset does not erase it.
class ResettableRecurrences : public Recurrences {};

INSTANTIATE_TEST_SUITE_P(Family, ResettableRecurrences, testing::ValuesIn(subjects({"none", "dplr", "raw", "bounded"})),
                         name_of);

TEST_P(Recurrences, PackedSequencesAreTheSequencesOneByOne) {
  const Workload packed{"", 1, 100, 1, 2, 8, 12, true, Gates::ordinary, true, {0, 1, 18, 35, 100}};
  const NamedTensors in = GetParam().inputs(packed, 5);
  const NamedTensors whole_weights = loss_weights(forward(GetParam().run(), in), GetParam().dtype(), 6);
  const NamedTensors whole = forward_and_backward(GetParam().run(), in, whole_weights);
  for (int64_t n = 0; n < packed.sequences(); ++n) {
    const int64_t first = packed.offsets[static_cast<size_t>(n)];
    const int64_t count = packed.offsets[static_cast<size_t>(n) + 1] - first;
    NamedTensors one = without(tokens(in, first, count), "cu_seqlens");
    one = with(one, "initial_state", find(in, "initial_state").narrow(0, n, 1));
    const NamedTensors weights{{"o", find(whole_weights, "o").narrow(1, first, count)},
                               {"final_state", find(whole_weights, "final_state").narrow(0, n, 1)}};
    for (const auto& [name, expected] : forward_and_backward(GetParam().run(), one, weights)) {
      if (name == "d_A_log" || name == "d_dt_bias") continue;  // sums over all sequences
      const bool state = name.ends_with("_state");
      const at::Tensor actual = find(whole, name);
      expect_close("sequence " + std::to_string(n) + ": " + name,
                   state ? actual.narrow(0, n, 1) : tokens(actual, first, count, packed.T), expected,
                   GetParam().rounding());
    }
  }
}

TEST_P(Recurrences, CuttingASequenceAnywhereChangesNothing) {
  const int64_t T = 70;
  const NamedTensors in = GetParam().inputs({"", 2, T, 1, 2, 6, 5, true, Gates::ordinary, true}, 7);
  const NamedTensors whole = forward(GetParam().run(), in);
  for (const int64_t cut : {int64_t{1}, int64_t{16}, int64_t{31}, int64_t{64}, int64_t{69}}) {
    const NamedTensors left = forward(GetParam().run(), tokens(in, 0, cut));
    const NamedTensors rest = with(tokens(in, cut, T - cut), "initial_state", find(left, "final_state"));
    const NamedTensors right = forward(GetParam().run(), rest);
    const std::string what = "cut at " + std::to_string(cut);
    expect_close(what, at::cat({find(left, "o"), find(right, "o")}, 1), find(whole, "o"), GetParam().rounding());
    expect_close(what, find(right, "final_state"), find(whole, "final_state"), GetParam().rounding());
  }
}

TEST_P(Recurrences, APrefixDoesNotDependOnWhatFollowsNotEvenInItsLastBit) {
  const int64_t T = 150, past = 77;
  const OperatorCase& op = GetParam().operator_case;
  const Workload workload{"", 1, T, 1, 2, 20, 24, true, Gates::ordinary, true};
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    if (dtype == at::kDouble && !GetParam().in_float64) continue;
    const NamedTensors in = copy_as(op, op.inputs(workload, 8), dtype, at::kCPU);
    const NamedTensors other = copy_as(op, op.inputs(workload, 9), dtype, at::kCPU);
    NamedTensors changed;
    for (const auto& [name, tensor] : in) {
      changed.push_back({name, tensor.clone()});
      if (is_timed(name))
        tokens(changed.back().tensor, past, T - past, T).copy_(tokens(find(other, name), past, T - past, T));
    }
    const at::Tensor o = find(forward(GetParam().run(), in), "o").narrow(1, 0, past);
    const at::Tensor with_other_future = find(forward(GetParam().run(), changed), "o").narrow(1, 0, past);
    expect_close("past", with_other_future, o, Tolerance{});
  }
}

TEST_P(Recurrences, GroupedHeadsReadTheHeadOfTheirGroup) {
  const NamedTensors in = GetParam().inputs({"", 1, 33, 2, 6, 8, 4}, 10);
  const auto spread = [&](const std::string& name) { return find(in, name).repeat_interleave(3, 2); };
  const NamedTensors expanded = with(with(in, "q", spread("q")), "k", spread("k"));
  const NamedTensors grouped = evaluate(GetParam().run(), in), each = evaluate(GetParam().run(), expanded);
  for (const auto& [name, actual] : grouped) {
    at::Tensor expected = find(each, name);
    if (name == "d_q" || name == "d_k") expected = expected.unflatten(2, {2, 3}).sum(3);
    expect_close(name, actual, expected, GetParam().rounding());
  }
}

TEST_P(Recurrences, NoInitialStateIsOneOfZeros) {
  const NamedTensors in = GetParam().inputs({"", 2, 20, 1, 2, 8, 4}, 11);
  const NamedTensors zeros = with(in, "initial_state", at::zeros({2, 2, 8, 4}, GetParam().dtype()));
  expect_close("zeros", forward(GetParam().run(), zeros), forward(GetParam().run(), in), Tolerance{});
}

TEST_P(Recurrences, TheStateCanBeOverwritten) {
  for (const int64_t T : {1, 20}) {
    const NamedTensors in = GetParam().inputs({"", 2, T, 1, 2, 8, 4, true, Gates::ordinary, true}, 24);
    const NamedTensors expected = forward(GetParam().run(), in);
    const at::Tensor state = find(in, "initial_state").clone();
    const NamedTensors overwriting =
        with(with(in, "initial_state", state), "overwrite_state", at::ones({1}, at::kLong));
    const NamedTensors actual = forward(GetParam().run(), overwriting);
    expect_close("T = " + std::to_string(T), actual, expected, Tolerance{});
    EXPECT_EQ(find(actual, "final_state").data_ptr(), state.data_ptr());
    expect_refused("recurrence", "overwrite_state", [&] { evaluate(GetParam().run(), overwriting); });
    expect_refused("recurrence", "overwrite_state",
                   [&] { forward(GetParam().run(), without(overwriting, "initial_state")); });
  }
}

TEST_P(ResettableRecurrences, AfterAHardResetEverythingIsAsFromAFreshStart) {
  const int64_t T = 90, reset = 37;
  for (const double g : {-1000.0, -kInfinity}) {
    NamedTensors in = GetParam().inputs({"", 1, T, 1, 2, 8, 4, true, Gates::ordinary, true}, 12);
    find(in, "g").select(1, reset).fill_(g);
    const NamedTensors fresh = without(tokens(in, reset, T - reset), "initial_state");
    const NamedTensors whole = forward(GetParam().run(), in), after = forward(GetParam().run(), fresh);
    expect_close("o", find(whole, "o").narrow(1, reset, T - reset), find(after, "o"), GetParam().rounding());
    expect_close("final_state", find(whole, "final_state"), find(after, "final_state"), GetParam().rounding());

    // Backward: a loss on the tokens after the reset has zero gradient before it.
    NamedTensors weights = loss_weights(whole, GetParam().dtype(), 13);
    find(weights, "o").narrow(1, 0, reset).zero_();
    const NamedTensors results = forward_and_backward(GetParam().run(), in, weights);
    expect_all_finite(results);
    EXPECT_EQ(tokens(find(results, "d_v"), 0, reset, T).abs().max().item<double>(), 0);
    EXPECT_EQ(find(results, "d_initial_state").abs().max().item<double>(), 0);
  }
}

TEST_P(DecayingRecurrences, FullyBlockedGatesLeaveNoNaN) {
  const OperatorCase& op = GetParam().operator_case;
  for (const double g : {-1000.0, -kInfinity, -5.0, -88.0, -1e-30}) {
    NamedTensors in =
        copy_as(op, op.inputs({"", 1, 66, 1, 2, 8, 4, true, Gates::ordinary, true}, 14), at::kFloat, at::kCPU);
    find(in, "g").fill_(g);
    expect_all_finite(evaluate(GetParam().run(), in));
  }
}

// --- The delta rule -----------------------------------------------------------------------------------------------

class DeltaRule : public testing::TestWithParam<Implementation> {
 protected:
  const OperatorCase& kda_ = operator_case("recurrence/channel/delta");
  const Subject subject_{kda_, GetParam(), GetParam() != Implementation::cpu};
  NamedFunction run() const { return subject_.run(); }
  NamedTensors inputs(int64_t T, uint64_t seed) const {
    return subject_.inputs({"", 1, T, 1, 2, 16, 8, true, Gates::ordinary, true}, seed);
  }
};

std::string form_name(const testing::TestParamInfo<Implementation>& info) { return to_string(info.param); }

INSTANTIATE_TEST_SUITE_P(Forms, DeltaRule, testing::ValuesIn(on_cpu(kernels::recurrence_implementations())), form_name);

TEST_P(DeltaRule, BetaZeroWritesNothing) {
  NamedTensors in = inputs(40, 15);
  find(in, "beta").zero_();
  const at::Tensor decay = find(in, "g").sum(1).exp().unsqueeze(-1);  // [B, HV, K, 1]
  expect_close("final_state", find(forward(run(), in), "final_state"), find(in, "initial_state") * decay,
               subject_.rounding());
}

TEST_P(DeltaRule, BetaOneStoresExactlyTheValue) {
  NamedTensors in = inputs(40, 16);
  find(in, "beta").fill_(1);
  const NamedTensors read_back = with(in, "q", find(in, "k") * std::sqrt(16.0));  // undoes the scale
  expect_close("o", find(forward(run(), read_back), "o"), find(in, "v"), subject_.rounding());
}

// Such keys give the worst conditioned triangular system of unit keys. Substitution is accurate for it; a truncated
// series or a float16 inverse would fail.
TEST_P(DeltaRule, IdenticalAndNearlyCollinearKeysKeepTheirDigits) {
  for (const double spread : {0.0, 1e-6, 1e-2}) {
    at::Generator generator = seeded_generator(17);
    NamedTensors in = inputs(300, 18);
    const at::Tensor key = directions({1, 1, 1, 16}, generator), noise = normal({1, 300, 1, 16}, generator);
    const at::Tensor k = key + spread * noise;
    in = with(in, "k", k / k.norm(2, {-1}, true));
    find(in, "g").fill_(-1e-6);
    find(in, "beta").fill_(0.9997);
    in = copy_as(kda_, in, at::kFloat, at::kCPU);
    // The same decay and key at every token cause the same rounding error at every token, so 300 errors add up instead
    // of averaging.
    const Tolerance systematic = derived_tolerance({at::kFloat, at::kFloat, int64_t{300} * 300});
    const NamedTensors weights = loss_weights(forward(run(), in), at::kFloat, 19);
    const NamedTensors exact_in = copy_as(kda_, in, at::kDouble, at::kCPU);
    const NamedTensors actual = forward_and_backward(run(), in, weights);
    const NamedTensors expected = forward_and_backward(runner(kda_, Implementation::reference), exact_in, weights);
    for (const auto& [name, tensor] : expected) {
      expect_close(name, find(actual, name), tensor, systematic);
    }
  }
}

TEST_P(DeltaRule, KdaIsKdaWrittenAsDplr) {
  const OperatorCase& dplr = operator_case("recurrence/channel/dplr");
  const NamedTensors in = inputs(75, 20);
  const auto spread = [&](const at::Tensor& x) { return x.repeat_interleave(2, 2); };
  // All inputs per value head, as functions of KDA's inputs, so that gradients can be compared too.
  const NamedFunction as_dplr = [&](const NamedTensors& kda) {
    const at::Tensor k = spread(find(kda, "k")), beta = find(kda, "beta").unsqueeze(-1), g = find(kda, "g");
    return runner(dplr, GetParam())({{"q", spread(find(kda, "q"))},
                                     {"k", beta * k},
                                     {"v", find(kda, "v")},
                                     {"g", g},
                                     {"a", g.exp() * k},
                                     {"b", -beta * k},
                                     {"initial_state", find(kda, "initial_state")}});
  };
  expect_close("KDA", evaluate(run(), in), evaluate(as_dplr, in), subject_.rounding());
  expect_close("the recurrence", forward(as_dplr, in), recurrence_oracle(in), subject_.rounding());
}

TEST_P(DeltaRule, AScalarDecayIsOneThatAllChannelsShare) {
  const NamedTensors in = copy_as(kda_, operator_case("recurrence/scalar/delta").inputs({"", 1, 50, 1, 2, 16, 8}, 21),
                                  subject_.dtype(), at::kCPU);
  const at::Tensor g = find(in, "g");
  const NamedTensors channels = with(in, "g", g.unsqueeze(-1).expand({1, 50, 2, 16}));
  expect_close("scalar", forward(run(), in), forward(run(), channels), subject_.rounding());
  const NamedTensors none = with(in, "g", at::zeros_like(g));
  expect_close("none", forward(run(), without(in, "g")), forward(run(), none), subject_.rounding());
}

TEST_P(DeltaRule, TheNumberOfThreadsDoesNotMatter) {
  const NamedTensors in = subject_.inputs({"", 4, 130, 2, 4, 64, 64, true, Gates::ordinary, true}, 23);
  const NamedTensors one = evaluate(run(), in);
  at::set_num_threads(4);
  const NamedTensors four = evaluate(run(), in);
  at::set_num_threads(1);
  expect_close("four threads", four, one, subject_.rounding());
}

TEST(Recurrence, AutomaticIsOneOfTheForms) {
  const OperatorCase& kda = operator_case("recurrence/channel/delta");
  for (const int64_t T : {1, 33}) {
    const NamedTensors in = kda.inputs({"", 1, T, 1, 1, 8, 8}, 22);
    expect_close("T = " + std::to_string(T), forward(runner(kda, Implementation::automatic), in), recurrence_oracle(in),
                 tight());
  }
}

}  // namespace
}  // namespace klab
