// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <limits>

#include "kernels/common/aten_private.h"
#include "kernels/common/checks.h"
#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

constexpr const char* kOp = "attention";
constexpr int64_t kLogitBlock = 128;
constexpr int64_t kQueryBlock = 256;  // with forget gates, [B, H, 256, S] weights are in memory at a time
constexpr int64_t kShortestWindowBlock = 64;

void check(const AttentionInputs& in) {
  TORCH_CHECK_VALUE(in.q.defined(), kOp, ": q is missing");
  check_tensor(kOp, "q", in.q, {-1, -1, -1, -1}, in.q);
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), K = in.q.size(3);
  check_tensor(kOp, "k", in.k, {B, -1, -1, K}, in.q);
  const int64_t S = in.k.size(1), HK = in.k.size(2);
  check_tensor(kOp, "v", in.v, {B, S, HK, -1}, in.q);
  TORCH_CHECK_VALUE(S >= T, kOp, ": ", T, " queries, but only ", S, " keys: the queries' own keys are among them");
  TORCH_CHECK_VALUE(HK >= 1 && H % HK == 0, kOp, ": q has ", H, " heads, which must be a multiple of the ", HK,
                    " heads of k and v");
  if (in.g.defined()) check_tensor(kOp, "g", in.g, {B, S, H}, in.q);
  if (!in.window) return;
  TORCH_CHECK_VALUE(*in.window >= 1, kOp, ": window is ", *in.window, ", but must be at least 1");
  TORCH_CHECK_VALUE(!in.g.defined(), kOp, ": window excludes forget gates (g)");
}

double scale_of(const AttentionInputs& in) {
  return in.scale.value_or(1.0 / std::sqrt(static_cast<double>(in.q.size(3))));
}

Tensor heads_first(const Tensor& x) { return x.transpose(1, 2); }

Tensor per_query_head(const Tensor& x, int64_t H) { return x.size(2) == H ? x : x.repeat_interleave(H / x.size(2), 2); }

// sum of g_i over j < i <= p for all keys j, with p = `first` the position of the first query: [B, H, S]. Summed from p
// backwards, because the terms near p matter: a difference of prefix sums would lose their precision in a long
// sequence.
Tensor forgotten(const Tensor& g, int64_t first) {
  const Tensor wide = heads_first(g.to(accumulation_type(g.scalar_type())));  // [B, H, S]
  // Keys up to p: the gates of the tokens after the key, without its own.
  const Tensor back = at::constant_pad_nd(wide.narrow(2, 1, first), {0, 1}).flip({2}).cumsum(2).flip({2});
  if (first + 1 == g.size(1)) return back;
  const Tensor after = wide.narrow(2, first + 1, g.size(1) - first - 1);
  return at::cat({back, -after.cumsum(2)}, 2);  // keys after p: minus their own gates
}

// Which of the first `keys` keys each of `count` queries sees, the last of which has the position of the last key:
// [count, keys].
Tensor seen_keys(const AttentionInputs& in, int64_t count, int64_t keys) {
  const Tensor up_to_own = at::ones({count, keys}, in.q.options().dtype(at::kBool)).tril(keys - count);
  return in.window ? up_to_own.triu(keys - count - *in.window + 1) : up_to_own;
}

// Weights [B, H, count, keys] of the queries [first, first + count) over the keys up to the last query's position.
Tensor weights_of(const AttentionInputs& in, int64_t first, int64_t count) {
  const int64_t T = in.q.size(1), H = in.q.size(2), position = in.k.size(1) - T + first, keys = position + count;
  const Tensor q = heads_first(in.q.narrow(1, first, count)) * scale_of(in);
  const Tensor k = heads_first(per_query_head(in.k.narrow(1, 0, keys), H));
  Tensor logits = q.matmul(k.transpose(2, 3));  // [B, H, count, keys]
  if (in.g.defined()) {
    // Relative to the block's first query: row t subtracts the gates between that query and itself.
    const Tensor from_first = forgotten(in.g.narrow(1, 0, keys), position);  // [B, H, keys]
    logits = logits + from_first.unsqueeze(2) - from_first.narrow(2, position, count).unsqueeze(3);
  }
  const Tensor unseen = at::logical_not(seen_keys(in, count, keys));
  return logits.masked_fill(unseen, -std::numeric_limits<double>::infinity()).softmax(-1);
}

// Outputs of the queries [first, first + count): [B, count, H, V].
Tensor written_out(const AttentionInputs& in, int64_t first, int64_t count) {
  const Tensor weights = weights_of(in, first, count);
  return heads_first(weights.matmul(heads_first(per_query_head(in.v.narrow(1, 0, weights.size(3)), in.q.size(2)))));
}

// In blocks of queries. Gradients are also summed over the blocks before they are rounded.
Tensor in_blocks(const AttentionInputs& given, int64_t block) {
  const at::ScalarType wide = accumulation_type(given.q.scalar_type());
  const AttentionInputs in{given.q.to(wide), given.k.to(wide), given.v.to(wide),
                           given.g,          scale_of(given),  given.window};
  const int64_t T = in.q.size(1);
  std::vector<Tensor> blocks;
  for (int64_t first = 0; first < T; first += block) {
    blocks.push_back(written_out(in, first, std::min(block, T - first)));
  }
  return (blocks.size() == 1 ? blocks.front() : at::cat(blocks, 1)).to(given.q.scalar_type());
}

Tensor padded(const Tensor& x, int64_t width) {
  return x.size(-1) == width ? x : at::constant_pad_nd(x, {0, width - x.size(-1)});
}

// ATen's fused attention needs keys and values of the same width. Zero padding changes neither logits nor outputs.
struct Fused {
  Tensor q, k, v;
  explicit Fused(const AttentionInputs& in) {
    const int64_t width = std::max(in.q.size(3), in.v.size(3));
    q = heads_first(padded(in.q, width));
    k = heads_first(padded(in.k, width));
    v = heads_first(padded(in.v, width));
  }
};

Tensor fused(const AttentionInputs& in, bool causal, const std::optional<Tensor>& mask) {
  Fused f(in);
  const bool grouped = in.k.size(2) != in.q.size(2);
  const Tensor o = at::scaled_dot_product_attention(f.q, f.k, f.v, mask, 0.0, causal, scale_of(in), grouped);
  return heads_first(o).narrow(3, 0, in.v.size(3));
}

AttentionInputs keys_between(const AttentionInputs& in, int64_t first, int64_t count) {
  return {in.q, in.k.narrow(1, first, count), in.v.narrow(1, first, count), {}, scale_of(in)};
}

// Blocks of queries with the keys that they see. A block half as long as the window sees half as many keys again as it
// needs to.
Tensor windowed(const AttentionInputs& in) {
  const int64_t T = in.q.size(1), past = in.k.size(1) - T, window = *in.window;
  const int64_t block = std::clamp<int64_t>(window / 2, kShortestWindowBlock, kQueryBlock);
  std::vector<Tensor> blocks;
  for (int64_t start = 0; start < T; start += block) {
    const int64_t count = std::min(block, T - start), end = past + start + count;
    const int64_t begin = std::max<int64_t>(0, past + start - window + 1);
    AttentionInputs some = keys_between(in, begin, end - begin);
    some.q = in.q.narrow(1, start, count);
    some.window = window;
    blocks.push_back(count == 1 ? fused(some, /*causal=*/false, std::nullopt)
                                : fused(some, false, seen_keys(some, count, end - begin)));
  }
  return blocks.size() == 1 ? blocks.front() : at::cat(blocks, 1);
}

Tensor composed(const AttentionInputs& in) {
  const int64_t T = in.q.size(1), S = in.k.size(1);
  if (in.window && *in.window < S) return windowed(in);
  if (in.g.defined()) return in_blocks(in, kQueryBlock);
  if (S == T) return fused(in, /*causal=*/true, std::nullopt);
  if (T == 1) return fused(in, /*causal=*/false, std::nullopt);
  if (in.q.is_cpu() && !records_gradient({in.q, in.k, in.v})) {
    return join(partial_attention(keys_between(in, 0, S - T), /*causal=*/false),
                partial_attention(keys_between(in, S - T, T), /*causal=*/true))
        .o;
  }
  return fused(in, false, at::ones({T, S}, in.q.options().dtype(at::kBool)).tril(S - T));
}

}  // namespace

PartialAttention partial_attention(const AttentionInputs& in, bool causal) {
  TORCH_CHECK_VALUE(in.q.is_cpu(), kOp, ": partial attention runs on the CPU only so far");
  Fused f(in);
  const auto [o, lse] = flash_attention_on_cpu(f.q, f.k, f.v, causal, scale_of(in));
  return {heads_first(o).narrow(3, 0, in.v.size(3)), heads_first(lse)};
}

AttentionGradients partial_attention_backward(const AttentionInputs& in, const PartialAttention& whole,
                                              const Tensor& d_o, bool causal) {
  TORCH_CHECK_VALUE(in.q.is_cpu(), kOp, ": partial attention runs on the CPU only so far");
  const int64_t B = in.q.size(0), S = in.k.size(1), H = in.q.size(2), HK = in.k.size(2);
  // ATen's gradients are those of a key head per query head.
  const Fused f({in.q, per_query_head(in.k, H), per_query_head(in.v, H)});
  const int64_t width = f.q.size(3);
  const auto d = flash_attention_backward_on_cpu(heads_first(padded(d_o, width)), f.q, f.k, f.v,
                                                 {heads_first(padded(whole.o, width)), heads_first(whole.lse)}, causal,
                                                 scale_of(in));
  const auto of_key_heads = [&](const Tensor& x, int64_t columns) {
    return heads_first(x).narrow(3, 0, columns).reshape({B, S, HK, H / HK, columns}).sum(3);
  };
  return {heads_first(d.q).narrow(3, 0, in.q.size(3)), of_key_heads(d.k, in.k.size(3)),
          of_key_heads(d.v, in.v.size(3))};
}

PartialAttention join(const PartialAttention& one, const PartialAttention& other) {
  const Tensor lse = at::logaddexp(one.lse, other.lse);
  const auto weighted = [&](const PartialAttention& part) {
    return part.o * (part.lse - lse).exp().unsqueeze(-1);  // in the dtype of lse or wider
  };
  return {(weighted(one) + weighted(other)).to(one.o.scalar_type()), lse};
}

Tensor attention_weights(const AttentionInputs& in) {
  check(in);
  const at::ScalarType wide = accumulation_type(in.q.scalar_type());
  return weights_of({in.q.to(wide), in.k.to(wide), in.v, in.g, in.scale, in.window}, 0, in.q.size(1));
}

Tensor largest_logits(const AttentionInputs& in) {
  check(in);
  const at::NoGradGuard no_grad;
  const int64_t T = in.q.size(1), H = in.q.size(2), past = in.k.size(1) - T;
  const Tensor q = heads_first(in.q.to(at::kFloat)) * scale_of(in);
  const Tensor k = heads_first(per_query_head(in.k.to(at::kFloat), H)).transpose(2, 3);  // [B, H, K, S]
  const double none = -std::numeric_limits<double>::infinity();
  Tensor largest = at::full({H}, none, q.options());
  for (int64_t first = 0; first < T; first += kLogitBlock) {
    const int64_t count = std::min(kLogitBlock, T - first), keys = past + first + count;
    Tensor logits = q.narrow(2, first, count).matmul(k.narrow(3, 0, keys));  // [B, H, count, keys]
    logits.masked_fill_(at::logical_not(seen_keys(in, count, keys)), none);
    largest = at::maximum(largest, logits.amax({0, 2, 3}));
  }
  return largest;
}

Tensor attention(const AttentionInputs& in, Implementation implementation) {
  check(in);
  switch (implementation) {
    case Implementation::reference: return in_blocks(in, in.q.size(1));
    case Implementation::automatic:
    case Implementation::composed: return composed(in);
    default:
      TORCH_CHECK_NOT_IMPLEMENTED(false, kOp, ": there is no implementation '", to_string(implementation),
                                  "' of it; there are 'reference' and 'composed'");
  }
}

std::vector<Implementation> attention_implementations() {
  return {Implementation::reference, Implementation::composed};
}

}  // namespace klab::kernels
