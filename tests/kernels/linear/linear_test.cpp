// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/linear.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "kernels/common/support.h"

namespace klab {
namespace {

// Shapes for every implementation that linear() chooses between, and strided views.
TEST(Linear, IsTheProductWhateverComputesIt) {
  for (const auto& [rows, K, N] :
       {std::tuple{3, 8, 5}, {40, 8, 1}, {40, 1, 8}, {64, 100, 60}, {200, 256, 171}, {200, 171, 256}}) {
    const at::Tensor x = at::randn({2, rows, K}), weight = at::randn({N, K}), d_y = at::randn({2, rows, N});
    const auto evaluate = [&](const at::Tensor& given_x, const at::Tensor& given_weight, const auto& product) {
      const at::Tensor a = given_x.detach().requires_grad_(), b = given_weight.detach().requires_grad_();
      const at::Tensor y = product(a, b);
      y.backward(d_y.to(y.scalar_type()));
      return NamedTensors{{"y", y.detach()}, {"d_x", a.grad()}, {"d_weight", b.grad()}};
    };
    const auto linear = [](const at::Tensor& a, const at::Tensor& b) { return kernels::linear(a, b); };
    const auto exact = [](const at::Tensor& a, const at::Tensor& b) { return at::linear(a, b); };
    const NamedTensors expected = evaluate(x.to(at::kDouble), weight.to(at::kDouble), exact);
    const Tolerance rounding = derived_tolerance({at::kFloat, at::kFloat, 2 * rows + K + N});
    const std::string shape = std::to_string(rows) + " x " + std::to_string(K) + " x " + std::to_string(N);
    expect_close(shape, evaluate(x, weight, linear), expected, rounding);
    const at::Tensor strided = at::stack({x, x + 1}, -1).select(-1, 0);
    expect_close(shape + ", strided", evaluate(strided, weight.t().contiguous().t(), linear), expected, rounding);
    expect_close(shape + ", float64", evaluate(x.to(at::kDouble), weight.to(at::kDouble), linear), expected, {});
    const at::NoGradGuard no_grad;
    expect_close(shape + ", without gradients", kernels::linear(x, weight), expected[0].tensor, rounding);
  }
}

TEST(Linear, SecondDerivativesAreRight) {
  const at::Tensor x = at::randn({40, 6}).requires_grad_(), weight = at::randn({5, 6}).requires_grad_();
  const at::Tensor d_x = torch::autograd::grad({kernels::linear(x, weight).square().sum()}, {x}, {}, true, true)[0];
  const at::Tensor d_weight = torch::autograd::grad({d_x.sum()}, {weight})[0];
  const at::Tensor other_d_x = torch::autograd::grad({at::linear(x, weight).square().sum()}, {x}, {}, true, true)[0];
  expect_close("d_weight", d_weight, torch::autograd::grad({other_d_x.sum()}, {weight})[0],
               derived_tolerance({at::kFloat, at::kFloat, 400}));
}

// --- Several projections of one x ---------------------------------------------------------------------------------

// y_p, d_x and d_weight_p of a loss sum over p of d_y_p y_p.
NamedTensors evaluate_projections(const at::Tensor& given_x, const std::vector<at::Tensor>& given_weights,
                                  const std::vector<at::Tensor>& d_y) {
  const at::Tensor x = given_x.detach().requires_grad_();
  std::vector<at::Tensor> weights;
  for (const at::Tensor& weight : given_weights) weights.push_back(weight.detach().requires_grad_());
  const std::vector<at::Tensor> y = kernels::projections(x, weights);
  torch::autograd::backward(y, d_y);
  NamedTensors results{{"d_x", x.grad()}};
  for (size_t p = 0; p < y.size(); ++p) {
    results.push_back({"y" + std::to_string(p), y[p].detach()});
    results.push_back({"d_weight" + std::to_string(p), weights[p].grad()});
  }
  return results;
}

std::vector<at::Tensor> in_float64(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> wide;
  for (const at::Tensor& x : tensors) wide.push_back(x.to(at::kDouble));
  return wide;
}

struct Projected {
  at::Tensor x;
  std::vector<at::Tensor> weights, d_y;

  Projected(int64_t rows, int64_t K, const std::vector<int64_t>& widths) : x(at::randn({rows, K})) {
    for (const int64_t N : widths) {
      weights.push_back(at::randn({N, K}));
      d_y.push_back(at::randn({rows, N}));
    }
  }
};

// Sizes around vectors, panels, tiles, blocks and chunks of rows, and groups of columns.
TEST(Projections, AreProductsWithEachWeight) {
  using Widths = std::vector<int64_t>;
  for (const auto& [rows, K, widths] : {std::tuple<int64_t, int64_t, Widths>{32, 1, {1}},
                                        {33, 3, {2, 1, 5}},
                                        {45, 16, {16}},
                                        {127, 17, {15, 33}},
                                        {128, 32, {32, 31, 8}},
                                        {129, 33, {64, 2, 32, 7}},
                                        {1025, 40, {3, 48}},
                                        {2200, 64, {64, 64, 2}},
                                        {300, 100, {390, 5}},
                                        {4097, 129, {255, 258}},
                                        {40, 344, {128}},
                                        {32, 8200, {2, 1}},
                                        {33, 1031, {17, 5}},
                                        {1100, 130, {127, 1, 3}},
                                        {4230, 250, {67, 131}}}) {
    const Projected in(rows, K, widths);
    int64_t sum = 0;
    for (const int64_t N : widths) sum += N;
    const NamedTensors expected =
        evaluate_projections(in.x.to(at::kDouble), in_float64(in.weights), in_float64(in.d_y));
    const Tolerance rounding = derived_tolerance({at::kFloat, at::kFloat, rows + K + sum});
    for (const int threads : {1, 2}) {
      const Threads set(threads);
      expect_close(std::to_string(rows) + " x " + std::to_string(K), evaluate_projections(in.x, in.weights, in.d_y),
                   expected, rounding);
    }
  }
}

TEST(Projections, HaveTheBitsOfLinearOnAnyNumberOfThreads) {
  const Projected in(2500, 160, {110, 7, 130});
  const NamedTensors expected = [&] {
    const Threads one(1);
    return evaluate_projections(in.x, in.weights, in.d_y);
  }();
  for (const int count : {2, 7}) {
    const Threads more(count);
    expect_close("threads", evaluate_projections(in.x, in.weights, in.d_y), expected, Tolerance{});
  }
  for (size_t p = 0; p < in.weights.size(); ++p) {
    const NamedTensors alone = evaluate_projections(in.x, {in.weights[p]}, {in.d_y[p]});
    const std::string index = std::to_string(p);
    expect_close("y", find(alone, "y0"), find(expected, "y" + index), Tolerance{});
    const at::NoGradGuard no_grad;
    expect_close("without gradients", kernels::linear(in.x, in.weights[p]), find(expected, "y" + index), Tolerance{});
    expect_close("some rows", kernels::linear(in.x.narrow(0, 77, 41), in.weights[p]),
                 find(expected, "y" + index).narrow(0, 77, 41), Tolerance{});
  }
}

TEST(Projections, TakeInputsAndGradientsAnywhereInMemory) {
  const Projected in(70, 36, {20, 36});
  const auto apart = [](const at::Tensor& x) { return at::stack({x, x + 1}, -1).select(-1, 0); };
  const std::vector<at::Tensor> d_y{in.d_y[0], at::randn({36}).expand({70, 36})};
  expect_close("strided",
               evaluate_projections(apart(in.x), {in.weights[0].t().contiguous().t(), apart(in.weights[1])},
                                    {apart(d_y[0]), d_y[1]}),
               evaluate_projections(in.x, in.weights, {d_y[0], d_y[1].contiguous()}), Tolerance{});
  const std::vector<at::Tensor> y = kernels::projections(in.x.view({2, 35, 1, 36}), in.weights);
  EXPECT_EQ(y[0].sizes(), at::IntArrayRef({2, 35, 1, 20}));
  EXPECT_EQ(y[1].sizes(), at::IntArrayRef({2, 35, 1, 36}));
}

TEST(Projections, OnlyThoseThatAreUsedOrFollowedGetAGradient) {
  const Projected in(40, 12, {5, 6, 7});
  const at::Tensor x = in.x.clone().requires_grad_(), fixed = in.weights[1];
  const at::Tensor first = in.weights[0].clone().requires_grad_(), last = in.weights[2].clone().requires_grad_();
  const std::vector<at::Tensor> y = kernels::projections(x, {first, fixed, last});
  torch::autograd::backward({y[0], y[1]}, {in.d_y[0], in.d_y[1]});  // y[2] is not used
  const Tolerance rounding = derived_tolerance({at::kFloat, at::kFloat, 60});
  expect_close("d_x", x.grad(), at::mm(in.d_y[0], first.detach()) + at::mm(in.d_y[1], fixed), rounding);
  expect_close("d_weight", first.grad(), at::mm(in.d_y[0].t(), in.x), rounding);
  EXPECT_FALSE(fixed.grad().defined());
  EXPECT_FALSE(last.grad().defined() && last.grad().abs().max().item<float>() > 0);
}

TEST(Projections, SecondDerivativesAreRight) {
  const auto second = [](const auto& function) {
    const at::Tensor x = at::linspace(-1, 1, 240).view({40, 6}).requires_grad_();
    const at::Tensor a = at::linspace(1, 2, 30).view({5, 6}).requires_grad_(), b = a.detach() * 2;
    const std::vector<at::Tensor> y = function(x, std::vector<at::Tensor>{a, b});
    const at::Tensor loss = y[0].square().sum() + (y[0].sum(-1) * y[1].sum(-1)).sum();
    const at::Tensor d_x = torch::autograd::grad({loss}, {x}, {}, true, true)[0];
    return torch::autograd::grad({d_x.square().sum()}, {a})[0];
  };
  const at::Tensor expected = second([](const at::Tensor& x, const std::vector<at::Tensor>& weights) {
    return std::vector<at::Tensor>{at::linear(x, weights[0]), at::linear(x, weights[1])};
  });
  const at::Tensor actual = second(
      [](const at::Tensor& x, const std::vector<at::Tensor>& weights) { return kernels::projections(x, weights); });
  expect_close("second", actual, expected, derived_tolerance({at::kFloat, at::kFloat, 1000}));
}

TEST(Projections, NaNComesThroughAndStaysInItsRow) {
  Projected in(45, 1019, {18, 4});  // large enough for the kernel of the weights' gradients
  in.x[40][18] = std::nan("");
  NamedTensors results = evaluate_projections(in.x, in.weights, in.d_y);
  for (const char* name : {"y0", "y1"}) {
    const at::Tensor wrong = at::isnan(find(results, name));
    EXPECT_TRUE(wrong[40].all().item<bool>()) << name;
    EXPECT_EQ(wrong.sum().item<int64_t>(), wrong.size(1)) << name;
  }
  EXPECT_EQ(at::isnan(find(results, "d_weight0")).sum().item<int64_t>(), 18);
  EXPECT_EQ(at::isnan(find(results, "d_x")).sum().item<int64_t>(), 0);
  in = Projected(45, 1019, {18, 4});
  in.d_y[1][3][2] = std::nan("");
  results = evaluate_projections(in.x, in.weights, in.d_y);
  EXPECT_TRUE(at::isnan(find(results, "d_x"))[3].all().item<bool>());
  EXPECT_EQ(at::isnan(find(results, "d_x")).sum().item<int64_t>(), 1019);
  EXPECT_TRUE(at::isnan(find(results, "d_weight1"))[2].all().item<bool>());
  EXPECT_EQ(at::isnan(find(results, "d_weight1")).sum().item<int64_t>(), 1019);
  EXPECT_EQ(at::isnan(find(results, "d_weight0")).sum().item<int64_t>(), 0);
}

// Few rows, other dtypes, no rows, no weights, weights that are too large for the kernel or narrower than x.
TEST(Projections, FallBackToLinear) {
  for (const int64_t rows : {0, 1, 5, 40}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const Projected in(rows, 12, {5, 6});
      const std::vector<at::Tensor> weights{in.weights[0].to(dtype), in.weights[1].to(dtype)};
      const std::vector<at::Tensor> y = kernels::projections(in.x.to(dtype), weights);
      for (size_t p = 0; p < 2; ++p) {
        expect_close("fallback", y[p], kernels::linear(in.x.to(dtype), weights[p]), Tolerance{});
      }
    }
  }
  const at::Tensor x = at::randn({40, 1024}), large = at::randn({1024, 1024});
  expect_close("large", kernels::projections(x, {large})[0], at::linear(x, large),
               derived_tolerance({at::kFloat, at::kFloat, 2048}));
  EXPECT_TRUE(kernels::projections(x, {}).empty());
  expect_close("narrower", kernels::projections(x, {large.to(at::kBFloat16)})[0],
               kernels::linear(x, large.to(at::kBFloat16)), Tolerance{});
}

TEST(Projections, RefuseWrongArgumentsByName) {
  const at::Tensor x = at::ones({40, 6});
  expect_refused("linear", "weight has shape", [&] { kernels::projections(x, {at::ones({5, 6}), at::ones({5, 7})}); });
  expect_refused("linear", "weight is missing", [&] { kernels::projections(x, {at::ones({5, 6}), at::Tensor()}); });
  expect_refused("linear", "x must be", [&] { kernels::projections(at::Tensor(), {x}); });
}

TEST(Linear, RefusesWrongArgumentsByName) {
  const at::Tensor x = at::ones({40, 6});
  expect_refused("linear", "weight has shape", [&] { kernels::linear(x, at::ones({5, 7})); });
  expect_refused("linear", "weight is missing", [&] { kernels::linear(x, at::Tensor()); });
  expect_refused("linear", "x must be", [&] { kernels::linear(at::Tensor(), x); });
  expect_refused("linear", "x has dtype", [&] { kernels::linear(x.to(at::kLong), x); });
}

// --- Narrower weights ---------------------------------------------------------------------------------------------

constexpr at::ScalarType kFloats[] = {at::kFloat, at::kBFloat16, at::kHalf};

struct Narrow {
  at::Tensor weight, scale;
  at::Tensor exact() const {
    const at::Tensor wide = weight.to(at::kDouble);
    return scale.defined() ? wide * scale.to(at::kDouble).unsqueeze(1) : wide;
  }
};

Narrow narrow_weight(int64_t N, int64_t K, at::ScalarType dtype) {
  const at::Tensor weight = at::randn({N, K});
  if (dtype != at::kChar) return {weight.to(dtype), {}};
  const auto [values, scale, squared_error, squared_sum] = kernels::quantise(weight);
  return {values, scale};
}

bool goes_with(at::ScalarType weight, at::ScalarType x) {
  return weight == at::kChar || weight == x || (x == at::kFloat && weight != at::kDouble);
}

// Sums are accumulated in float32, also by oneDNN and by ATen's float16 products.
Tolerance tolerance_of(int64_t K, at::ScalarType result, int64_t elements) {
  return derived_tolerance({.sums = at::kFloat, .result = result, .terms = K + 2, .elements = elements});
}

// Few and many rows, every pair of dtypes, sizes that are and are not multiples of the vector length.
TEST(Linear, TakesNarrowerWeights) {
  for (const auto& [rows, K, N] : {std::tuple{1, 1, 1},
                                   {1, 3, 5},
                                   {3, 65, 3},
                                   {5, 100, 171},
                                   {17, 63, 5},
                                   {31, 9, 2},
                                   {32, 65, 171},
                                   {40, 1000, 3},
                                   {40, 1, 5},
                                   {2, 1000, 64}}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kChar}) {
      for (const at::ScalarType x_dtype : kFloats) {
        if (!goes_with(dtype, x_dtype)) continue;
        at::Tensor x = at::randn({rows, K}).to(x_dtype);
        Narrow narrow = narrow_weight(N, K, dtype);
        if (rows * N < 16) {  // few elements: avoid cancellation, which could exceed the tolerance
          x = x.abs();
          narrow.weight = narrow.weight.abs();
        }
        const at::Tensor expected = at::linear(x.to(at::kDouble), narrow.exact());
        Tolerance tolerance = tolerance_of(K, x_dtype, expected.numel());
        if (dtype == at::kChar && x_dtype == at::kBFloat16) {  // many rows: rounded before and after the scale
          tolerance.of_element += unit_roundoff(x_dtype);
          tolerance.relative_rms += unit_roundoff(x_dtype);
        }
        std::ostringstream what;
        what << rows << " x " << K << " x " << N << ", x " << x_dtype << ", weight " << dtype;
        const at::NoGradGuard no_grad;
        expect_close(what.str(), kernels::linear(x, narrow.weight, narrow.scale), expected, tolerance);
        const at::Tensor batch = x.view({1, rows, 1, K});
        EXPECT_EQ(kernels::linear(batch, narrow.weight, narrow.scale).sizes(), at::IntArrayRef({1, rows, 1, N}));
      }
    }
  }
}

// A weight of several blocks with a smaller last one.
TEST(Linear, WidensABlockAtATime) {
  const int64_t rows = 33, K = 3000, N = 1501;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kChar}) {
    const at::Tensor x = at::randn({rows, K});
    const Narrow narrow = narrow_weight(N, K, dtype);
    expect_close("blocks", kernels::linear(x, narrow.weight, narrow.scale),
                 at::linear(x.to(at::kDouble), narrow.exact()), tolerance_of(K, at::kFloat, rows * N));
  }
}

TEST(Linear, ManyRowsOfIntegersDoNotOverflowFloat16) {
  const int64_t K = 512;
  const at::Tensor x = at::full({40, K}, 8.0, at::kHalf), weight = at::full({3, K}, 127, at::kChar);
  const at::Tensor y = kernels::linear(x, weight, at::full({3}, 1.0 / 127));
  expect_close("y", y, at::full({40, 3}, 8.0 * K, at::kDouble), tolerance_of(K, at::kHalf, 120));
}

TEST(Linear, TakesWeightsWithGapsAndTransposedOnes) {
  for (const int64_t rows : {2, 40}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kChar}) {
      const Narrow narrow = narrow_weight(7, 33, dtype);
      const at::Tensor x = at::randn({rows, 33}), expected = at::linear(x.to(at::kDouble), narrow.exact());
      const Tolerance tolerance = tolerance_of(33, at::kFloat, expected.numel());
      const at::Tensor wider = at::cat({narrow.weight, narrow.weight}, 1).narrow(1, 0, 33);
      expect_close("gaps", kernels::linear(x, wider, narrow.scale), expected, tolerance);
      expect_close("transposed", kernels::linear(x, narrow.weight.t().contiguous().t(), narrow.scale), expected,
                   tolerance);
      const at::Tensor scale =
          narrow.scale.defined() ? at::stack({narrow.scale, narrow.scale + 1}, 1).select(1, 0) : at::Tensor();
      expect_close("scale with gaps", kernels::linear(x, narrow.weight, scale), expected, tolerance);
      const at::Tensor apart = at::stack({x, x + 1}, -1).select(-1, 0);
      expect_close("x with gaps", kernels::linear(apart, narrow.weight, narrow.scale), expected, tolerance);
    }
  }
}

TEST(Linear, EmptyOnesStayEmptyOrZero) {
  const at::Tensor weight = at::ones({5, 6}, at::kBFloat16);
  EXPECT_EQ(kernels::linear(at::ones({0, 6}), weight).sizes(), at::IntArrayRef({0, 5}));
  EXPECT_EQ(kernels::linear(at::ones({3, 6}), weight.narrow(0, 0, 0)).sizes(), at::IntArrayRef({3, 0}));
}

TEST(Linear, RefusesWrongNarrowWeightsByName) {
  const at::Tensor x = at::ones({2, 6}), half = at::ones({5, 6}, at::kHalf), integers = at::ones({5, 6}, at::kChar);
  const at::Tensor scale = at::ones({5});
  expect_refused("linear", "scale is missing", [&] { kernels::linear(x, integers); });
  expect_refused("linear", "scale is given", [&] { kernels::linear(x, half, scale); });
  expect_refused("linear", "scale has shape", [&] { kernels::linear(x, integers, at::ones({6})); });
  expect_refused("linear", "scale has dtype", [&] { kernels::linear(x, integers, scale.to(at::kDouble)); });
  expect_refused("linear", "weight has shape", [&] { kernels::linear(x, integers.t(), scale); });
  expect_refused("linear", "weight has dtype", [&] { kernels::linear(x, at::ones({5, 6}, at::kLong)); });
  expect_refused("linear", "weight has dtype", [&] { kernels::linear(x.to(at::kBFloat16), half); });
  expect_refused("linear", "weight has dtype", [&] { kernels::linear(x.to(at::kHalf), at::ones({5, 6})); });
  expect_refused("linear", "weight has dtype", [&] { kernels::linear(x.to(at::kDouble), integers, scale); });
  const at::Tensor followed = at::ones({2, 6}).requires_grad_();
  expect_refused("linear", "x needs a gradient", [&] { kernels::linear(followed, half); });
  expect_refused("linear", "weight needs a gradient", [&] {
    kernels::linear(x, at::ones({5, 6}, at::kHalf).requires_grad_());
  });
  expect_refused("linear", "scale needs a gradient",
                 [&] { kernels::linear(x, integers, at::ones({5}).requires_grad_()); });
  const at::NoGradGuard no_grad;
  kernels::linear(followed, half);
}

// --- Quantisation -------------------------------------------------------------------------------------------------

TEST(Quantise, IsOffByHalfAStepAtMost) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor weight = (at::randn({70, 129}) * at::randn({70, 1}).exp()).to(dtype);
    const auto [values, scale, squared_error, squared_sum] = kernels::quantise(weight);
    ASSERT_EQ(values.scalar_type(), at::kChar);
    ASSERT_EQ(scale.scalar_type(), at::kFloat);
    const at::Tensor step = scale.to(at::kDouble).unsqueeze(1);
    const at::Tensor error = (values.to(at::kDouble) * step - weight.to(at::kDouble)).abs() / step;
    // Half a quantisation step, plus float32 rounding errors.
    EXPECT_LE(error.max().item<double>(), 0.5 + 3 * 127 * unit_roundoff(at::kFloat)) << dtype;
    EXPECT_TRUE(at::equal(values.abs().amax(1), at::full({70}, 127, at::kChar))) << dtype;
    const double all = weight.to(at::kDouble).square().sum().item<double>();
    const double wrong = (error * step).square().sum().item<double>();
    EXPECT_NEAR(squared_sum, all, 1e-6 * all) << dtype;
    EXPECT_NEAR(squared_error, wrong, 1e-3 * wrong) << dtype;
  }
}

TEST(Quantise, RoundsTiesToEven) {
  const auto [values, scale, squared_error, squared_sum] =
      kernels::quantise(at::tensor({127.0F, 0.5F, 1.5F, -2.5F, -127.0F}).view({1, 5}));
  EXPECT_TRUE(at::equal(values, at::tensor({127, 0, 2, -2, -127}, at::kChar).view({1, 5})));
  EXPECT_EQ(scale.item<float>(), 1.0F);
}

TEST(Quantise, ZerosHaveScaleOneAndTinyOnesANormalScale) {
  at::Tensor weight = at::zeros({3, 4});
  weight[1].fill_(std::numeric_limits<float>::denorm_min());
  const auto [values, scale, squared_error, squared_sum] = kernels::quantise(weight);
  EXPECT_TRUE(at::equal(values, at::zeros({3, 4}, at::kChar)));
  EXPECT_EQ(scale[0].item<float>(), 1.0F);
  EXPECT_EQ(scale[1].item<float>(), std::numeric_limits<float>::min());
}

// Several blocks of rows, and a transposed layout.
TEST(Quantise, DoesNotDependOnHowTheRowsLie) {
  const at::Tensor weight = at::randn({2200, 1000});
  const auto all = kernels::quantise(weight.t().contiguous().t());
  for (const int64_t row : {0, 2096, 2097, 2098, 2199}) {
    const auto one = kernels::quantise(weight.narrow(0, row, 1));
    EXPECT_TRUE(at::equal(all.values.narrow(0, row, 1), one.values)) << row;
    EXPECT_TRUE(at::equal(all.scale.narrow(0, row, 1), one.scale)) << row;
  }
}

TEST(Quantise, RefusesWhatIsNoNumberOrNoMatrix) {
  for (const double wrong : {kInfinity, -kInfinity, std::nan("")}) {
    const at::Tensor weight = at::ones({3, 4}, at::kBFloat16);
    weight[2][1] = wrong;
    expect_refused("quantise", "weight has a number that is not finite", [&] { kernels::quantise(weight); });
  }
  expect_refused("quantise", "weight has a number", [&] { kernels::quantise(at::full({1, 1}, 1e300, at::kDouble)); });
  expect_refused("quantise", "weight has shape", [&] { kernels::quantise(at::ones({3})); });
  expect_refused("quantise", "weight is missing", [&] { kernels::quantise({}); });
}

}  // namespace
}  // namespace klab
