// SPDX-License-Identifier: Apache-2.0
// The kernel for few rows: results, and the guarantees that rows are independent of each other, that results are
// bitwise the same on any number of threads and with weights at any address, and that it reads nothing outside its
// operands.
#include "kernels/linear/cpu/products.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <sys/mman.h>
#include <torch/nn/module.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/common/support.h"
#include "kernels/linear/linear.h"

namespace klab {
namespace {

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kChar};
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Weight {
  at::Tensor values, scale;
  at::Tensor exact() const {
    const at::Tensor wide = values.to(at::kDouble);
    return scale.defined() ? wide * scale.to(at::kDouble).unsqueeze(1) : wide;
  }
};

Weight random_weight(int64_t N, int64_t K, at::ScalarType type) {
  if (type != at::kChar) return {at::randn({N, K}).to(type), {}};
  return {at::randint(-127, 128, {N, K}).to(at::kChar), (at::rand({N}) + 0.5) / 100};
}

kernels::cpu::WeightMatrix view_of(const Weight& weight) {
  using kernels::cpu::WeightType;
  kernels::cpu::WeightMatrix matrix;
  matrix.data = weight.values.data_ptr();
  matrix.scale = weight.scale.defined() ? weight.scale.data_ptr<float>() : nullptr;
  matrix.N = weight.values.size(0);
  matrix.K = weight.values.size(1);
  matrix.step = weight.values.stride(0);
  const at::ScalarType type = weight.values.scalar_type();
  matrix.type = type == at::kFloat      ? WeightType::float32
                : type == at::kBFloat16 ? WeightType::bfloat16
                : type == at::kHalf     ? WeightType::float16
                                        : WeightType::int8;
  return matrix;
}

kernels::Dtype dtype_of(at::ScalarType type) {
  using kernels::Dtype;
  return type == at::kFloat ? Dtype::float32 : type == at::kBFloat16 ? Dtype::bfloat16 : Dtype::float16;
}

// Calls the kernel directly, for any number of rows. Elements that it does not write stay NaN.
at::Tensor product(const at::Tensor& x, const Weight& weight) {
  const at::Tensor y = at::full({x.size(0), weight.values.size(0)}, kNaN, x.options());
  const kernels::Dtype dtype = dtype_of(x.scalar_type());
  kernels::cpu::product({x.size(0),
                         {x.data_ptr(), x.stride(0), x.stride(1), 0, dtype},
                         view_of(weight),
                         {y.data_ptr(), y.stride(0), y.stride(1), 0, dtype}});
  return y;
}

std::string name(int64_t rows, int64_t K, int64_t N, at::ScalarType x, at::ScalarType weight) {
  std::ostringstream what;
  what << rows << " x " << K << " x " << N << ", x " << x << ", weight " << weight;
  return what.str();
}

void expect_right(const at::Tensor& x, const Weight& weight, const std::string& what) {
  const at::Tensor expected = at::linear(x.to(at::kDouble), weight.exact());
  const int64_t K = x.size(1);
  expect_close(
      what, product(x, weight), expected,
      derived_tolerance({.sums = at::kFloat, .result = x.scalar_type(), .terms = K + 2, .elements = expected.numel()}));
}

TEST(Products, AreRightForEveryShapeAndType) {
  for (const int64_t K : {1, 3, 63, 65, 100, 1000}) {
    for (const int64_t N : {1, 3, 5, 171}) {
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 40}) {
        for (const at::ScalarType type : kTypes) {
          const at::ScalarType x_type = std::array{at::kFloat, at::kBFloat16, at::kHalf}[(rows + N + K) % 3];
          at::Tensor x = at::randn({rows, K}).to(x_type);
          Weight weight = random_weight(N, K, type);
          if (rows * N < 16) {  // few elements: avoid cancellation, which could exceed the tolerance
            x = x.abs();
            weight.values = weight.values.abs();
          }
          expect_right(x, weight, name(rows, K, N, x_type, type));
        }
      }
    }
  }
}

// K long enough to be split into blocks, including one that is not a multiple of the block size.
TEST(Products, AreRightForLongRows) {
  for (const auto& [rows, K] : {std::pair{1, 9216}, {2, 8193}, {5, 4096}, {8, 4001}, {16, 2304}, {17, 1537}}) {
    for (const at::ScalarType type : kTypes) {
      expect_right(at::randn({rows, K}), random_weight(70, K, type), name(rows, K, 70, at::kFloat, type));
    }
  }
}

TEST(Products, EveryInstructionSetIsRight) {
  int64_t tried = 0;
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SSSE3, HWY_NEON}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    for (const at::ScalarType type : kTypes) {
      for (const auto& [rows, K] : {std::pair{1, 65}, {3, 1000}, {7, 3}, {16, 1300}}) {
        expect_right(at::randn({rows, K}).to(at::kHalf), random_weight(37, K, type),
                     name(rows, K, 37, at::kHalf, type) + " on " + hwy::TargetName(target));
        ++tried;
      }
    }
    hwy::SetSupportedTargetsForTest(0);
  }
  EXPECT_GT(tried, 0);
}

TEST(Products, RowsDoNotSeeEachOther) {
  for (const int64_t K : {3, 100, 2304}) {
    for (const at::ScalarType type : kTypes) {
      const at::Tensor x = at::randn({40, K});
      const Weight weight = random_weight(171, K, type);
      at::Tensor alone = at::empty({40, 171});
      for (int64_t r = 0; r < 40; ++r) alone[r] = product(x.narrow(0, r, 1), weight)[0];
      for (const int64_t rows : {2, 3, 4, 5, 6, 7, 8, 11, 16, 17, 23, 40}) {
        EXPECT_TRUE(at::equal(product(x.narrow(0, 0, rows), weight), alone.narrow(0, 0, rows)))
            << name(rows, K, 171, at::kFloat, type);
      }
    }
  }
}

// A column of the result does not depend on which other rows of the weight are in the call.
TEST(Products, RowsOfTheWeightDoNotSeeEachOther) {
  const Weight weight = random_weight(171, 1000, at::kBFloat16);
  const at::Tensor x = at::randn({5, 1000}), all = product(x, weight);
  for (const int64_t first : {1, 2, 3, 64, 165}) {
    const Weight part{weight.values.narrow(0, first, 6), {}};
    EXPECT_TRUE(at::equal(product(x, part), all.narrow(1, first, 6))) << first;
  }
}

TEST(Products, TheNumberOfThreadsDoesNotChangeABit) {
  for (const auto& [rows, K, N] : {std::tuple{1, 1000, 1000}, {3, 2304, 513}, {17, 700, 171}}) {
    for (const at::ScalarType type : kTypes) {
      const at::Tensor x = at::randn({rows, K});
      const Weight weight = random_weight(N, K, type);
      const Threads one(1);
      const at::Tensor expected = product(x, weight);
      for (const int count : {2, 7}) {
        const Threads more(count);
        EXPECT_TRUE(at::equal(product(x, weight), expected)) << name(rows, K, N, at::kFloat, type) << " " << count;
      }
    }
  }
}

// The weight starts at any byte and is surrounded by NaN bytes.
TEST(Products, WeightsMayLieAtAnyByte) {
  const int64_t N = 9, K = 37;
  for (const at::ScalarType type : kTypes) {
    const Weight weight = random_weight(N, K, type);
    const at::Tensor x = at::randn({5, K});
    const int64_t bytes = weight.values.nbytes();
    for (const int64_t shift : {1, 2, 3, 63}) {
      std::vector<uint8_t> memory(static_cast<size_t>(bytes + 2 * shift + 64), 0xFF);
      std::memcpy(memory.data() + shift, weight.values.data_ptr(), static_cast<size_t>(bytes));
      kernels::cpu::WeightMatrix view = view_of(weight);
      view.data = memory.data() + shift;
      const at::Tensor y = at::full({5, N}, kNaN);
      kernels::cpu::product({5, {x.data_ptr(), K, 1, 0}, view, {y.data_ptr(), N, 1, 0}});
      EXPECT_TRUE(at::equal(y, product(x, weight))) << type << " at byte " << shift;
    }
  }
}

// The weight ends at a page boundary, and the next page is unreadable.
TEST(Products, NothingBeyondTheWeightIsRead) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(static_cast<char*>(memory) + page, page, PROT_NONE), 0);
  for (const at::ScalarType type : kTypes) {
    for (const int64_t K : {1, 15, 37, 64}) {
      const Weight weight = random_weight(7, K, type);
      const size_t bytes = weight.values.nbytes();
      kernels::cpu::WeightMatrix view = view_of(weight);
      view.data = std::memcpy(static_cast<char*>(memory) + page - bytes, weight.values.data_ptr(), bytes);
      const at::Tensor x = at::randn({5, K}), y = at::empty({5, 7});
      kernels::cpu::product({5, {x.data_ptr(), K, 1, 0}, view, {y.data_ptr(), 7, 1, 0}});
      EXPECT_TRUE(at::equal(y, product(x, weight))) << type << " " << K;
    }
  }
  munmap(memory, 2 * page);
}

TEST(Products, ViewsAtAnOddElementGoThroughLinear) {
  for (const at::ScalarType type : kTypes) {
    const Weight weight = random_weight(5, 33, type);
    const at::Tensor memory = at::empty({5 * 33 + 1}, weight.values.options());
    const at::Tensor odd = memory.narrow(0, 1, 5 * 33).view({5, 33});
    odd.copy_(weight.values);
    const at::Tensor x = at::randn({2, 33});
    EXPECT_TRUE(at::equal(kernels::linear(x, odd, weight.scale), kernels::linear(x, weight.values, weight.scale)));
  }
}

TEST(Products, NaNComesThroughAndStaysInItsRow) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t K : {1, 17, 1000}) {
      const Weight weight = random_weight(11, K, type);
      at::Tensor x = at::randn({6, K});
      x[4][K - 1] = kNaN;
      const at::Tensor y = product(x, weight).isnan();
      EXPECT_TRUE(y[4].all().item<bool>()) << K << " " << type;
      EXPECT_EQ(y.sum().item<int64_t>(), 11) << K << " " << type;
      if (type == at::kChar) continue;
      weight.values[7][K / 2] = kNaN;
      const at::Tensor z = product(at::randn({6, K}), weight).isnan();
      EXPECT_TRUE(z.select(1, 7).all().item<bool>()) << K << " " << type;
      EXPECT_EQ(z.sum().item<int64_t>(), 6) << K << " " << type;
    }
  }
}

// The thread's scratch memory may contain values of earlier calls.
TEST(Products, MemoryOfEarlierCallsDoesNotMatter) {
  for (const at::ScalarType type : kTypes) {
    const at::Tensor x = at::randn({7, 43});
    const Weight weight = random_weight(13, 43, type);
    product(at::zeros({16, 900}), random_weight(64, 900, type));
    const at::Tensor expected = product(x, weight);
    product(at::full({16, 900}, kNaN), random_weight(64, 900, type));
    EXPECT_TRUE(at::equal(product(x, weight), expected)) << type;
  }
}

}  // namespace
}  // namespace klab
