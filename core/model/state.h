// SPDX-License-Identifier: Apache-2.0
// Sequence boundaries in a batch, and the state of a model between calls.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace klab {

struct ContextPart;  // context_part.h

/// Sequence boundaries in a batch [B, T]. Undefined `cu_seqlens`: every batch row is one sequence. Otherwise [N + 1]
/// integer offsets of N independent packed sequences in a single row (B = 1).
struct Sequences {
  torch::Tensor cu_seqlens = {};
  std::shared_ptr<const ContextPart> part = {};  ///< set if the row is this rank's part of one that is cut over ranks

  /// The number of tokens of each sequence in a batch [B, T].
  std::vector<int64_t> lengths(int64_t B, int64_t T) const;

  /// Converts left-padded rows [B, T], whose first `padding[b]` tokens are padding, to packed sequences: the flat
  /// indices of the real tokens in [B * T], and their sequence boundaries. Throws UsageError for a row without real
  /// tokens.
  struct Unpadded;
  static Unpadded unpadded(const std::vector<int64_t>& padding, int64_t T);
};

struct Sequences::Unpadded {
  torch::Tensor positions;  ///< [tokens] int64
  Sequences sequences;
};

/// The state of a mixer between calls, for N sequences: tensors [N, ..] of fixed size (recurrent states, the last
/// inputs of convolutions), and growing caches [N, capacity, ..] with one row per token. Composite modules have the
/// states of their children as parts: a decoder's state has one part per layer. A call may write into the tensors in
/// place; use clone() for a snapshot.
struct State {
  std::map<std::string, torch::Tensor> tensors, caches;
  std::vector<int64_t> lengths;  ///< [N], processed tokens of each sequence; empty if there are only parts
  std::vector<State> parts;

  State clone() const;

  /// Allocated bytes, including unused capacity of caches.
  int64_t bytes() const;

  /// Replaces sequence i by sequence rows[i]: reorders, duplicates (beam search) or drops sequences. rows [M] int64.
  void reorder(const torch::Tensor& rows);

  /// Concatenates the sequences of several states of the same model.
  static State join(const std::vector<State>& states);

  /// Conversion to a flat map of names ("3.memory") for a checkpoint: put() adds the tensors to the map, take() reads
  /// them into a state from initial_state() of the same model and throws Error for a tensor that is missing or has
  /// another shape or dtype.
  void put(std::map<std::string, torch::Tensor>& into, const std::string& prefix) const;
  void take(const std::map<std::string, torch::Tensor>& from, const std::string& prefix);
};

/// Caches grow by this many tokens, so that few steps copy the cache and little capacity is unused.
constexpr int64_t kCacheBlock = 128;

/// The capacity in rows of a cache of `tokens` tokens.
constexpr int64_t cache_capacity(int64_t tokens) { return (tokens + kCacheBlock - 1) / kCacheBlock * kCacheBlock; }

/// A block of queries with the same number of cached tokens, which follow `past` cached tokens of the sequences
/// [sequence, sequence + rows): rows [row, row + rows) and tokens [start, start + tokens) of the batch, or in a packed
/// row the `rows` sequences of `tokens` tokens each that follow each other from token `start` on.
struct Span {
  int64_t row, rows, start, tokens, sequence, past;
  bool packed = false;

  torch::Tensor of(const torch::Tensor& x) const;      ///< the queries [rows, tokens, ..] of x [B, T, ..]
  torch::Tensor cached(const torch::Tensor& x) const;  ///< cached and new tokens of a cache [N, capacity, ..]
};

/// Splits a batch [B, T] into few spans: one, unless sequences are packed or have different lengths in `state`.
/// Adjacent sequences of equal lengths are in one span.
std::vector<Span> spans(const Sequences& sequences, int64_t B, int64_t T, const State* state);

/// Concatenates the results of all spans, each [rows, tokens, ..], to [B, T, ..].
torch::Tensor join_spans(const std::vector<Span>& spans, const std::vector<torch::Tensor>& parts);

/// Appends rows [B, T, ..] to the cache `name`, which grows if necessary. With gradients enabled the cache is copied
/// first, so that autograd can track it; otherwise it is written in place.
void append(State& state, const std::string& name, const torch::Tensor& rows, const std::vector<Span>& spans);

/// The position of every token in its sequence, [B, T] int64, including the tokens already in the state.
torch::Tensor positions(const Sequences& sequences, int64_t B, int64_t T, const State* state,
                        const torch::Device& device);

}  // namespace klab
