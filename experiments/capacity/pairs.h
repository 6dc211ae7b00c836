// SPDX-License-Identifier: Apache-2.0
// Random key-value pairs in the order in which a memory writes them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// - plain: every pair is written once.
/// - overwritten: in random order, every pair is written, and half of the keys once more with another value; the last
///   value counts.
/// - distractors: writes that are never asked for. Old ones come before the pairs, twice as many as the key has
///   channels, with keys over all channels; a decay per head forgets them, because they are older. Others come between
///   the pairs, four after each, with keys in the last quarter of the channels; they are as young as the pairs, so
///   only a decay per channel forgets them without the pairs.
enum class Scenario : uint8_t { plain, overwritten, distractors };

constexpr Scenario kScenarios[] = {Scenario::plain, Scenario::overwritten, Scenario::distractors};

std::string to_string(Scenario scenario);

/// The size of the vocabulary of values.
constexpr int64_t kVocabulary = 256;

/// B independent draws of N pairs, written in T steps. Keys and the vectors of the vocabulary are uniform on the unit
/// sphere; each write has a value drawn uniformly from the vocabulary. All vectors are float32.
struct Pairs {
  at::Tensor keys;        ///< [B, T, K]
  at::Tensor written;     ///< [B, T] int64, index of the value in the vocabulary
  at::Tensor vocabulary;  ///< [B, kVocabulary, V]
  at::Tensor last;        ///< [B, N] int64, the step that wrote each pair last

  at::Tensor values() const;        ///< [B, T, V], the vectors that are written
  at::Tensor asked_keys() const;    ///< [B, N, K]
  at::Tensor asked_values() const;  ///< [B, N] int64
};

/// Draws with V = K; `key` identifies the draw, as that of Random does.
Pairs draw_pairs(Scenario scenario, int64_t trials, int64_t pairs, int64_t key_dim, uint64_t key);

}  // namespace klab
