// SPDX-License-Identifier: Apache-2.0
#include "core/model/state.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/model/context_part.h"
#include "kernels/common/kernel_tensors.h"

namespace klab {
namespace {

using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;

int64_t held(const Tensors& tensors) {
  int64_t sum = 0;
  for (const auto& [name, tensor] : tensors) sum += static_cast<int64_t>(tensor.storage().nbytes());
  return sum;
}

Tensors clones(const Tensors& tensors) {
  Tensors copy;
  for (const auto& [name, tensor] : tensors) copy[name] = tensor.clone();
  return copy;
}

void select(Tensors& tensors, const Tensor& rows) {
  for (auto& [name, tensor] : tensors) tensor = tensor.index_select(0, rows.to(tensor.device()));
}

bool all_equal(const std::vector<int64_t>& values) {
  return std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
}

Tensor grown(const Tensor& cache, int64_t capacity) {
  std::vector<int64_t> shape = cache.sizes().vec();
  shape[1] = capacity;
  Tensor larger = kernels::empty_result(shape, cache.options());  // in huge pages: it is read at every step
  larger.narrow(1, 0, cache.size(1)).copy_(cache);
  larger.narrow(1, cache.size(1), capacity - cache.size(1)).zero_();  // a saved state has no uninitialised bytes
  return larger;
}

const Tensor& named(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail("the saved state has no tensor '{}'", name);
  return found->second;
}

void check_like(const Tensor& stored, const Tensor& wanted, const std::string& name, bool cache, int64_t sequences) {
  bool fits =
      stored.scalar_type() == wanted.scalar_type() && stored.dim() == wanted.dim() && stored.size(0) == sequences;
  for (int64_t d = 1; fits && d < wanted.dim(); ++d) {
    fits = (cache && d == 1) || stored.size(d) == wanted.size(d);
  }
  if (!fits) {
    fail("the saved state's tensor '{}' is {} {}, but this model's is {} {} for {} sequence(s)", name,
         c10::str(stored.scalar_type()), c10::str(stored.sizes()), c10::str(wanted.scalar_type()),
         c10::str(wanted.sizes()), sequences);
  }
}

}  // namespace

std::vector<int64_t> Sequences::lengths(int64_t B, int64_t T) const {
  if (!cu_seqlens.defined()) return std::vector<int64_t>(static_cast<size_t>(B), T);
  const Tensor offsets = cu_seqlens.to(torch::kCPU, torch::kLong).contiguous();
  std::vector<int64_t> lengths;
  const int64_t* at = offsets.data_ptr<int64_t>();
  for (int64_t i = 0; i + 1 < offsets.numel(); ++i) lengths.push_back(at[i + 1] - at[i]);
  return lengths;
}

Sequences::Unpadded Sequences::unpadded(const std::vector<int64_t>& padding, int64_t T) {
  std::vector<int64_t> where, offsets{0};
  for (size_t b = 0; b < padding.size(); ++b) {
    if (padding[b] < 0 || padding[b] >= T) {
      refuse("row {} has {} tokens of padding, which must lie in 0..{} for rows of {} tokens", b, padding[b], T - 1, T);
    }
    for (int64_t t = padding[b]; t < T; ++t) where.push_back(static_cast<int64_t>(b) * T + t);
    offsets.push_back(static_cast<int64_t>(where.size()));
  }
  return {torch::tensor(where, torch::kLong), {torch::tensor(offsets, torch::kLong)}};
}

State State::clone() const {
  State copy{clones(tensors), clones(caches), lengths, {}};
  for (const State& part : parts) copy.parts.push_back(part.clone());
  return copy;
}

int64_t State::bytes() const {
  int64_t sum = held(tensors) + held(caches);
  for (const State& part : parts) sum += part.bytes();
  return sum;
}

void State::reorder(const Tensor& rows) {
  const Tensor host = rows.to(torch::kCPU, torch::kLong).contiguous();
  if (!lengths.empty()) {
    std::vector<int64_t> moved;
    for (int64_t i = 0; i < host.numel(); ++i) {
      const int64_t row = host.data_ptr<int64_t>()[i];
      if (row < 0 || row >= static_cast<int64_t>(lengths.size())) {
        refuse("row {} of a state of {} sequences", row, lengths.size());
      }
      moved.push_back(lengths[static_cast<size_t>(row)]);
    }
    lengths = moved;
  }
  select(tensors, host);
  select(caches, host);
  for (State& part : parts) part.reorder(host);
}

State State::join(const std::vector<State>& states) {
  State joined;
  const State& first = states.at(0);
  for (const auto& [name, tensor] : first.tensors) {
    std::vector<Tensor> rows;
    for (const State& state : states) rows.push_back(state.tensors.at(name));
    joined.tensors[name] = torch::cat(rows);
  }
  for (const auto& [name, cache] : first.caches) {
    int64_t capacity = 0;
    for (const State& state : states) capacity = std::max(capacity, state.caches.at(name).size(1));
    std::vector<Tensor> rows;
    for (const State& state : states) {
      const Tensor& own = state.caches.at(name);
      std::vector<int64_t> shape = own.sizes().vec();
      shape[1] = capacity - own.size(1);
      rows.push_back(torch::cat({own, torch::zeros(shape, own.options())}, 1));
    }
    joined.caches[name] = torch::cat(rows);
  }
  for (const State& state : states) {
    joined.lengths.insert(joined.lengths.end(), state.lengths.begin(), state.lengths.end());
  }
  for (size_t i = 0; i < first.parts.size(); ++i) {
    std::vector<State> parts;
    for (const State& state : states) parts.push_back(state.parts.at(i));
    joined.parts.push_back(join(parts));
  }
  return joined;
}

void State::put(Tensors& into, const std::string& prefix) const {
  for (const auto& [name, tensor] : tensors) into[prefix + name] = tensor;
  for (const auto& [name, tensor] : caches) into[prefix + name] = tensor;
  if (!lengths.empty()) into[prefix + "lengths"] = torch::tensor(lengths, torch::kLong);
  for (size_t i = 0; i < parts.size(); ++i) parts[i].put(into, fmt::format("{}{}.", prefix, i));
}

void State::take(const Tensors& from, const std::string& prefix) {
  State taken = *this;  // *this changes only if all tensors are valid
  if (!lengths.empty()) {
    const Tensor stored = named(from, prefix + "lengths").to(torch::kLong).contiguous();
    taken.lengths.assign(stored.data_ptr<int64_t>(), stored.data_ptr<int64_t>() + stored.numel());
  }
  for (auto* group : {&taken.tensors, &taken.caches}) {
    for (auto& [name, tensor] : *group) {
      const Tensor& stored = named(from, prefix + name);
      check_like(stored, tensor, prefix + name, group == &taken.caches, static_cast<int64_t>(taken.lengths.size()));
      tensor = stored.to(tensor.device(), tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) taken.parts[i].take(from, fmt::format("{}{}.", prefix, i));
  *this = std::move(taken);
}

Tensor Span::of(const Tensor& x) const {
  if (packed) return x.narrow(1, start, rows * tokens).unflatten(1, {rows, tokens}).squeeze(0);
  const Tensor some = row == 0 && rows == x.size(0) ? x : x.narrow(0, row, rows);
  return start == 0 && tokens == x.size(1) ? some : some.narrow(1, start, tokens);
}

Tensor Span::cached(const Tensor& x) const { return x.narrow(0, sequence, rows).narrow(1, 0, past + tokens); }

std::vector<Span> spans(const Sequences& sequences, int64_t B, int64_t T, const State* state) {
  const auto past = [&](size_t n) {
    if (state != nullptr) return state->lengths[n];
    return sequences.part != nullptr && n == 0 ? sequences.part->past() : 0;
  };
  if (!sequences.cu_seqlens.defined()) {
    if (state == nullptr || all_equal(state->lengths)) return {{0, B, 0, T, 0, past(0)}};
    std::vector<Span> all;
    for (int64_t b = 0; b < B; ++b) {
      const int64_t before = past(static_cast<size_t>(b));
      if (all.empty() || all.back().past != before) {
        all.push_back({b, 1, 0, T, b, before});
      } else {
        ++all.back().rows;
      }
    }
    return all;
  }
  std::vector<Span> all;
  int64_t start = 0;
  size_t sequence = 0;
  for (const int64_t length : sequences.lengths(B, T)) {
    const int64_t before = past(sequence);
    const bool after_first_of_part = sequences.part != nullptr && sequence == 1;  // which may have begun elsewhere
    if (!all.empty() && !after_first_of_part && all.back().tokens == length && all.back().past == before) {
      ++all.back().rows;
    } else {
      all.push_back({0, 1, start, length, static_cast<int64_t>(sequence), before, /*packed=*/true});
    }
    start += length;
    ++sequence;
  }
  return all;
}

Tensor join_spans(const std::vector<Span>& spans, const std::vector<Tensor>& parts) {
  if (!spans.front().packed) return parts.size() == 1 ? parts.front() : torch::cat(parts, 0);
  std::vector<Tensor> flat;
  for (const Tensor& part : parts) flat.push_back(part.flatten(0, 1).unsqueeze(0));
  return flat.size() == 1 ? flat.front() : torch::cat(flat, 1);
}

void append(State& state, const std::string& name, const Tensor& rows, const std::vector<Span>& spans) {
  Tensor& cache = state.caches.at(name);
  int64_t longest = 0;
  for (const Span& span : spans) longest = std::max(longest, span.past + span.tokens);
  if (longest > cache.size(1)) {
    cache = grown(cache, cache_capacity(longest));
  } else if (torch::GradMode::is_enabled()) {
    cache = cache.clone();
  }
  for (const Span& span : spans) {
    cache.narrow(0, span.sequence, span.rows).narrow(1, span.past, span.tokens).copy_(span.of(rows));
  }
}

Tensor positions(const Sequences& sequences, int64_t B, int64_t T, const State* state, const torch::Device& device) {
  std::vector<Tensor> parts;
  const std::vector<Span> all = spans(sequences, B, T, state);
  for (const Span& span : all) {
    parts.push_back(torch::arange(span.past, span.past + span.tokens, torch::TensorOptions(torch::kLong).device(device))
                        .expand({span.rows, span.tokens}));
  }
  return join_spans(all, parts);
}

}  // namespace klab
