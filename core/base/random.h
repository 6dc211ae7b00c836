// SPDX-License-Identifier: Apache-2.0
// Random numbers that are the same on every machine: integer arithmetic only, one stream per key, no global state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace klab {

/// A stream of random numbers identified by a key, for example {seed, split, index}. Different keys give
/// independent streams (SplitMix64: Steele, Lea and Flood 2014, over a hash of the key).
class Random {
 public:
  Random(std::initializer_list<uint64_t> key) {
    for (const uint64_t word : key) state_ = mix(state_ ^ mix(word + 0x9e3779b97f4a7c15));
  }

  uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15); }

  /// Uniform in [0, n), n >= 1, without bias (Lemire 2019).
  uint64_t below(uint64_t n) {
    auto product = static_cast<unsigned __int128>(next()) * n;
    if (static_cast<uint64_t>(product) < n) {
      const uint64_t threshold = (0 - n) % n;
      while (static_cast<uint64_t>(product) < threshold) product = static_cast<unsigned __int128>(next()) * n;
    }
    return static_cast<uint64_t>(product >> 64);
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// The first `count` elements of a random permutation of [0, n), count <= n.
  std::vector<int64_t> distinct(int64_t count, int64_t n) {
    std::vector<int64_t> items(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) items[static_cast<size_t>(i)] = i;
    for (int64_t i = 0; i < count; ++i) {
      const auto j = i + static_cast<int64_t>(below(static_cast<uint64_t>(n - i)));
      std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(j)]);
    }
    items.resize(static_cast<size_t>(count));
    return items;
  }

 private:
  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  uint64_t state_ = 0x6b6c6162;  // "klab"
};

}  // namespace klab
