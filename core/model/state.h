// Where sequences lie in a batch, and what a model carries from one call to the next.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace klab {

/// Where sequences begin and end in a batch [B, T]. Undefined `cu_seqlens`: every batch row is one sequence. Else
/// [N + 1] integer offsets into the single row, which holds N packed sequences that never mix.
struct Sequences {
  torch::Tensor cu_seqlens;

  /// Tokens of each sequence of a batch [B, T].
  std::vector<int64_t> lengths(int64_t B, int64_t T) const;

  /// Rows [B, T] whose first `padding[b]` tokens stand for nothing (left padding, as batches of prompts have it) as
  /// packed sequences: the flat positions of the real tokens in [B * T], and where the sequences lie among them.
  /// Throws UsageError for a padding that leaves a row empty.
  struct Unpadded;
  static Unpadded unpadded(const std::vector<int64_t>& padding, int64_t T);
};

struct Sequences::Unpadded {
  torch::Tensor positions;  ///< [tokens] int64
  Sequences sequences;
};

/// What mixers carry from one call to the next, for N sequences: tensors [N, ..] of fixed size (recurrent memories,
/// the last inputs of convolutions), and caches [N, capacity, ..] with one row per token, which grow. The state of a
/// module made of modules has theirs as parts: a decoder's state has one part per layer. A call may write into the
/// tensors: a snapshot is a clone().
struct State {
  std::map<std::string, torch::Tensor> tensors, caches;
  std::vector<int64_t> lengths;  ///< tokens that each sequence has seen, [N]; empty where only parts are
  std::vector<State> parts;

  State clone() const;

  /// Bytes held, unused capacity of caches included.
  int64_t bytes() const;

  /// Sequence i becomes what sequence rows[i] was: reorders, repeats (beam search) or drops. rows [M] int64.
  void reorder(const torch::Tensor& rows);

  /// One state of all sequences of several states of one make, in their order.
  static State join(const std::vector<State>& states);

  /// Everything by name ("3.memory"), in one flat map, for a checkpoint: put() writes into it, take() reads it into a
  /// state of the same make (as initial_state() gives it) and throws Error that names what is missing or of another
  /// shape or dtype.
  void put(std::map<std::string, torch::Tensor>& into, const std::string& prefix) const;
  void take(const std::map<std::string, torch::Tensor>& from, const std::string& prefix);
};

/// Caches grow by this many tokens: a step almost never copies the past, and little stands empty.
constexpr int64_t kCacheBlock = 128;

/// Rows that a cache of `tokens` tokens has.
constexpr int64_t cache_capacity(int64_t tokens) { return (tokens + kCacheBlock - 1) / kCacheBlock * kCacheBlock; }

/// Queries whose keys lie together: rows [row, row + rows) and tokens [start, start + tokens) of the batch, which
/// follow `past` cached tokens of the sequences [row, row + rows) or, packed, of the one sequence `sequence`.
struct Span {
  int64_t row, rows, start, tokens, sequence, past;

  torch::Tensor of(const torch::Tensor& x) const;      ///< the queries of x [B, T, ..]
  torch::Tensor cached(const torch::Tensor& x) const;  ///< the past and the present of a cache [N, capacity, ..]
};

/// A batch [B, T] in as few spans as there can be: one, unless sequences are packed or have seen different lengths.
std::vector<Span> spans(const Sequences& sequences, int64_t B, int64_t T, const State* state);

/// What was computed for each span, [rows, tokens, ..], put together again as [B, T, ..].
torch::Tensor join_spans(const std::vector<Span>& spans, const std::vector<torch::Tensor>& parts);

/// Writes rows [B, T, ..] behind the past of the cache `name`, which grows where it must. With gradients on, autograd
/// follows and the cache is a copy; else it is written in place.
void append(State& state, const std::string& name, const torch::Tensor& rows, const std::vector<Span>& spans);

/// The position of every token in its sequence, [B, T] int64, counting from what the state has seen.
torch::Tensor positions(const Sequences& sequences, int64_t B, int64_t T, const State* state,
                        const torch::Device& device);

}  // namespace klab
