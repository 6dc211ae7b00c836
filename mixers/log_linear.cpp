// SPDX-License-Identifier: Apache-2.0
#include "mixers/log_linear.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <bit>

#include "core/model/context_part.h"
#include "kernels/common/checks.h"
#include "kernels/recurrence/recurrence_arguments.h"

namespace klab {
namespace {

using kernels::RecurrenceInputs;
using torch::Tensor;

constexpr int64_t kChunk = 64;  // tokens whose levels among each other are handled at once; a power of two

// The level of token s, or of a block with it, for a later token t: the highest binary digit in which they differ.
int64_t level_of(int64_t t, int64_t s, int64_t levels) {
  return std::min<int64_t>(std::bit_width(static_cast<uint64_t>(t ^ s)), levels - 1);
}

// The memory of a block of earlier tokens.
struct Block {
  int64_t token;  // one of them
  Tensor memory;  // [rows, HV, K, V]
};

// Merges the blocks that are one for the token at `position`.
std::vector<Block> merged(const std::vector<Block>& blocks, int64_t position, int64_t levels) {
  std::map<int64_t, Block> of_level;
  for (const Block& block : blocks) {
    const auto [found, fresh] = of_level.try_emplace(level_of(position, block.token, levels), block);
    if (!fresh) found->second.memory = found->second.memory + block.memory;
  }
  std::vector<Block> result;
  for (auto& [level, block] : of_level) result.push_back(std::move(block));
  return result;
}

// The blocks before `position` in a state's memories [rows, levels - 1, HV, K, V].
std::vector<Block> stored_blocks(const Tensor& memories, int64_t position) {
  const int64_t last = memories.size(1) - 1;  // has all digits from its own on
  std::vector<Block> blocks;
  for (int64_t digit = 0; digit < last; ++digit) {
    if ((position >> digit) % 2 == 0) continue;
    blocks.push_back({position >> (digit + 1) << (digit + 1), memories.select(1, digit)});
  }
  if (position >> last > 0) blocks.push_back({0, memories.select(1, last)});
  return blocks;
}

// The memories of a state for the blocks before `position`.
Tensor memories_of(const std::vector<Block>& blocks, int64_t position, const Tensor& like) {
  std::vector<Tensor> memories = torch::zeros_like(like).unbind(1);
  for (const Block& block : blocks) {
    memories[static_cast<size_t>(level_of(position, block.token, like.size(1) + 1) - 1)] = block.memory;
  }
  return torch::stack(memories, 1);
}

// scales [rows, c, HV, levels] of the levels that `level(i, j)` gives for token i and column j < columns:
// [rows, c, HV, columns].
template <class Level>
Tensor scales_of(const Tensor& scales, int64_t columns, Level&& level) {
  const int64_t c = scales.size(1);
  Tensor index = torch::empty({1, c, 1, columns}, torch::kLong);
  auto at = index.accessor<int64_t, 4>();
  for (int64_t i = 0; i < c; ++i) {
    for (int64_t j = 0; j < columns; ++j) at[0][i][0][j] = level(i, j);
  }
  return scales.gather(-1, index.to(scales.device()).expand({scales.size(0), c, scales.size(2), columns}));
}

// The outputs [rows, c, HV, V] of at most kChunk tokens from the writes of each other. With unit vectors as values a
// recurrence gives the weight of every write in every output.
Tensor among_tokens(RecurrenceInputs in, const Tensor& scales, int64_t position) {
  const Tensor v = in.v;
  const int64_t c = v.size(1);
  in.v = torch::eye(c, v.options().requires_grad(false)).view({1, c, 1, c}).expand({v.size(0), c, v.size(2), c});
  const Tensor weights = kernels::recurrence(in).o * scales_of(scales, c, [&](int64_t i, int64_t j) {
                           return j <= i ? level_of(position + i, position + j, scales.size(-1)) : 0;
                         });
  return torch::matmul(weights.transpose(1, 2), v.to(weights.scalar_type()).transpose(1, 2)).transpose(1, 2);
}

// Inputs without values for `blocks` memories per value head: those of head 0, of head 1, ..
RecurrenceInputs for_blocks(RecurrenceInputs in, int64_t blocks) {
  for (Tensor* x : {&in.g, &in.beta, &in.a, &in.b}) {
    if (x->defined()) *x = x->repeat_interleave(blocks, 2);
  }
  in.v.reset();
  return in;
}

// Carries the blocks over the tokens of `in`, from `position` on, and adds those of its own tokens as they are for the
// token after them. Returns the tokens' outputs from the earlier blocks, undefined without any.
Tensor carry(const RecurrenceInputs& in, const Tensor& scales, int64_t position, std::vector<Block>& blocks) {
  const int64_t rows = in.v.size(0), c = in.v.size(1), HV = in.v.size(2), V = in.v.size(3), end = position + c;
  const int64_t levels = scales.size(-1);
  const auto earlier = static_cast<int64_t>(blocks.size());
  std::vector<Tensor> values(blocks.size(), torch::zeros_like(in.v)), memories;
  for (const Block& block : blocks) memories.push_back(block.memory);
  const Tensor empty =
      torch::zeros({rows, HV, in.k.size(3), V}, in.v.options().dtype(kernels::accumulation_type(in.v.scalar_type())));
  for (int64_t first = position, next = 0; first < end; first = next) {  // the tokens of one block for `end`
    const int64_t level = level_of(end, first, levels);
    next = first + 1;
    while (next < end && level_of(end, next, levels) == level) ++next;
    values.push_back(torch::constant_pad_nd(in.v.narrow(1, first - position, next - first),
                                            {0, 0, 0, 0, first - position, end - next}));
    memories.push_back(empty);
    blocks.push_back({first, {}});
  }
  RecurrenceInputs each = for_blocks(in, static_cast<int64_t>(blocks.size()));
  each.v = torch::stack(values, 3).flatten(2, 3);
  each.initial_state = torch::stack(memories, 2).flatten(1, 2);
  const kernels::RecurrenceOutputs out = kernels::recurrence(each);
  const std::vector<Tensor> carried = out.final_state.unflatten(1, {HV, -1}).unbind(2);
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i].memory = carried[i];
  Tensor o;
  if (earlier > 0) {
    const Tensor read = out.o.unflatten(2, {HV, -1}).narrow(3, 0, earlier);  // [rows, c, HV, earlier, V]
    const Tensor weights = scales_of(scales, earlier, [&](int64_t i, int64_t j) {
      return level_of(position + i, blocks[static_cast<size_t>(j)].token, levels);
    });
    o = (read * weights.unsqueeze(-1)).sum(3);
  }
  blocks = merged(blocks, end, levels);
  return o;
}

// All tokens of one span: the tensors of `in` are [rows, tokens, ..].
Tensor over_span(const RecurrenceInputs& in, const Tensor& scales, int64_t position, std::vector<Block>& blocks,
                 bool keep_blocks) {
  const int64_t T = in.v.size(1);
  std::vector<Tensor> outputs;
  for (int64_t at = 0, c = 0; at < T; at += c) {
    c = std::min(T - at, kChunk - (position + at) % kChunk);
    const RecurrenceInputs chunk = kernels::tokens_of(in, at, c);
    const Tensor of_chunk = scales.narrow(1, at, c);
    Tensor o = among_tokens(chunk, of_chunk, position + at);
    if (!blocks.empty() || keep_blocks || at + c < T) {
      const Tensor before = carry(chunk, of_chunk, position + at, blocks);
      if (before.defined()) o = o + before;
    }
    outputs.push_back(o);
  }
  return torch::cat(outputs, 1);
}

template <class Change>
RecurrenceInputs each_row(RecurrenceInputs in, Change&& change) {
  kernels::each_tensor(in, [&](const kernels::TensorArgument& argument, Tensor& x) {
    if (argument.is_rows() && x.defined()) x = change(x);
  });
  return in;
}

Tensor over_spans(const RecurrenceInputs& in, const Tensor& scales, const Sequences& sequences, State* state) {
  const std::vector<Span> all = spans(sequences, in.v.size(0), in.v.size(1), state);
  std::vector<Tensor> outputs;
  for (const Span& span : all) {
    std::vector<Block> blocks;
    Tensor memories;
    if (state != nullptr) {
      memories = state->tensors.at("memory").narrow(0, span.sequence, span.rows);
      blocks = stored_blocks(memories, span.past);
    }
    const RecurrenceInputs part = each_row(in, [&](const Tensor& x) { return span.of(x); });
    outputs.push_back(over_span(part, span.of(scales), span.past, blocks, state != nullptr));
    if (state == nullptr) continue;
    const int64_t end = span.past + span.tokens;
    Tensor& memory = state->tensors.at("memory");
    memory = memory.slice_scatter(memories_of(blocks, end, memories), 0, span.sequence, span.sequence + span.rows);
  }
  return join_spans(all, outputs);
}

// On a part of a sequence: with the rows of earlier ranks, as if they were this rank's. Their outputs are not used.
Tensor over_part(RecurrenceInputs in, const Tensor& scales, const Sequences& sequences) {
  const int64_t past = sequences.part->past();
  const auto after_zeros = [&](const Tensor& x) { return torch::constant_pad_nd(x, {0, 0, 0, 0, past, 0}); };
  const auto after_past = [&](const Tensor& x) { return torch::cat({past_rows(*sequences.part, x), x}, 1); };
  const Tensor q = after_zeros(in.q);
  in.q.reset();  // not needed from other ranks
  in = each_row(in, after_past);
  in.q = q;
  Sequences longer;
  longer.cu_seqlens = sequences.cu_seqlens + past;
  longer.cu_seqlens[0] = 0;
  return over_spans(in, after_zeros(scales), longer, nullptr).narrow(1, past, q.size(1) - past);
}

}  // namespace

Tensor log_linear_recurrence(const RecurrenceInputs& raw, const Tensor& scales, const Sequences& sequences,
                             State* state) {
  const RecurrenceInputs in = kernels::activated(raw);
  const Tensor o = sequences.part ? over_part(in, scales, sequences) : over_spans(in, scales, sequences, state);
  return o.to(raw.v.scalar_type());
}

int64_t log_linear_row_bytes(const MemoryShape& memory, torch::ScalarType dtype) {
  const auto wide = static_cast<int64_t>(c10::elementSize(kernels::accumulation_type(dtype)));
  const int64_t gates = memory.update == kernels::Update::delta ? 2 : 1;
  return memory.key_heads * memory.key_dim * wide + memory.heads * gates * wide +
         memory.heads * memory.value_dim * static_cast<int64_t>(c10::elementSize(dtype));
}

double log_linear_flops(const MemoryShape& memory, int64_t tokens) {
  const auto over = [&](int64_t c, int64_t width) {
    return kernels::recurrence_flops(memory.update, c, memory.key_dim, width);
  };
  double sum = 0;
  for (int64_t at = 0; at < tokens; at += kChunk) {
    const int64_t c = std::min(kChunk, tokens - at), blocks = std::popcount(static_cast<uint64_t>(at));
    sum += over(c, c) + 2 * static_cast<double>(c * c * memory.value_dim);
    sum += static_cast<double>(blocks + (at + c < tokens ? 1 : 0)) * over(c, memory.value_dim);
  }
  return sum;
}

double log_linear_step_flops(const MemoryShape& memory, int64_t tokens) {
  const int blocks = std::popcount(static_cast<uint64_t>(tokens));
  return (blocks + 1) * kernels::recurrence_step_flops(memory.update, memory.key_dim, memory.value_dim);
}

}  // namespace klab
