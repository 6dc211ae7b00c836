// SPDX-License-Identifier: Apache-2.0
#include "wgmma_check.h"

#include <ATen/ATen.h>

#include <cstdio>
#include <limits>
#include <string>

#include "core/check/inputs.h"

namespace klab {
namespace {

using at::Tensor;

constexpr int64_t kRows = 64;
constexpr const char* kColumns = "instruction,orientation,depth,pitch,values,wrong,row,column,got,expected,verdict\n";

// Float64, with integers that bfloat16 represents.
struct Values {
  const char* name;
  Tensor a, b, c;
  float padding;
};

Values integers(const WgmmaProduct& product) {
  at::Generator generator = seeded_generator(1);
  const auto draw = [&](int64_t rows, int64_t columns) {
    return at::randint(-8, 9, {rows, columns}, generator, at::kDouble);
  };
  return {"integers", draw(kRows, product.depth), draw(product.depth, product.columns), draw(kRows, product.columns),
          std::numeric_limits<float>::quiet_NaN()};
}

// Row i of a selects row 37 i of b, modulo the depth, a power of two.
Tensor selection(int64_t depth) {
  const Tensor k = (at::arange(kRows, at::kLong) * 37).remainder(depth);
  return (k.unsqueeze(1) == at::arange(depth, at::kLong)).to(at::kDouble);
}

// b holds its row numbers, or its column numbers.
Values numbers(const WgmmaProduct& product, bool of_columns) {
  const Tensor line = of_columns ? at::arange(product.columns, at::kDouble).unsqueeze(0)
                                 : at::arange(product.depth, at::kDouble).unsqueeze(1);
  return {of_columns ? "columns" : "k", selection(product.depth),
          line.expand({product.depth, product.columns}).contiguous(), at::zeros({kRows, product.columns}, at::kDouble),
          -1};
}

Tensor compute(const WgmmaProduct& product, const Values& values, at::Device device, int pitch_error) {
  const auto options = at::TensorOptions().device(device).dtype(at::kFloat);
  const Tensor a = values.a.to(options), b = values.b.to(options), c = values.c.to(options);
  product.run(
      {a.data_ptr<float>(), b.data_ptr<float>(), c.data_ptr<float>(), product.pitch + pitch_error, values.padding});
  return c.to(at::kCPU, at::kDouble);
}

std::string description(const WgmmaProduct& product, const Values& values, int pitch) {
  const std::string format = product.bfloat16 ? "bf16" : "f16";
  return "wgmma.m64n" + std::to_string(product.columns) + "k16.f32." + format + "." + format + "," +
         (product.across ? "MN-major" : "K-major") + "," + std::to_string(product.depth) + "," + std::to_string(pitch) +
         "," + values.name;
}

// Prints the row; whether all elements are equal.
bool report(const std::string& what, const Tensor& actual, const Tensor& expected) {
  const Tensor wrong = ~(actual == expected);  // NaN is wrong
  const int64_t count = wrong.sum().item<int64_t>();
  if (count == 0) {
    std::printf("%s,0,,,,,ok\n", what.c_str());
  } else {
    const int64_t first = wrong.reshape({-1}).to(at::kByte).argmax().item<int64_t>();
    const int64_t row = first / expected.size(1), column = first % expected.size(1);
    std::printf("%s,%ld,%ld,%ld,%g,%g,FAIL\n", what.c_str(), static_cast<long>(count), static_cast<long>(row),
                static_cast<long>(column), actual[row][column].item<double>(), expected[row][column].item<double>());
  }
  std::fflush(stdout);
  return count == 0;
}

bool holds(const WgmmaProduct& product, const Values& values, at::Device device, int pitch_error) {
  const std::string what = description(product, values, product.pitch + pitch_error);
  std::fprintf(stderr, "%s\n", what.c_str());  // what ran last, should the device stop here
  return report(what, compute(product, values, device, pitch_error), values.c + at::matmul(values.a, values.b));
}

}  // namespace

int64_t check_wgmma(at::Device device, int pitch_error) {
  std::printf("%s", kColumns);
  int64_t failed = 0;
  for (const WgmmaProduct& product : wgmma_products()) {
    for (const Values& values : {integers(product), numbers(product, false), numbers(product, true)}) {
      failed += holds(product, values, device, pitch_error) ? 0 : 1;
    }
  }
  return failed;
}

void skip_wgmma() {
  std::printf("%swgmma,,,,,,,,,,skipped\n", kColumns);
  std::fprintf(stderr, "this device has no wgmma, which needs compute capability 9.0\n");
}

}  // namespace klab
