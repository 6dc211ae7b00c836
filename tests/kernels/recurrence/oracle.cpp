// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/oracle.h"

#include <torch/nn/module.h>

#include <cmath>

namespace klab {
namespace {

// A float64 copy of a tensor as a plain array with row-major indexing.
struct Array {
  std::vector<int64_t> shape;
  std::vector<double> data;

  explicit Array(std::vector<int64_t> sizes) : shape(std::move(sizes)) {
    size_t count = 1;
    for (const int64_t size : shape) count *= static_cast<size_t>(size);
    data.assign(count, 0.0);
  }

  explicit Array(const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    const at::Tensor copy = tensor.detach().to(at::kCPU, at::kDouble).contiguous();
    shape = copy.sizes().vec();
    data.assign(copy.data_ptr<double>(), copy.data_ptr<double>() + copy.numel());
  }

  bool defined() const { return !shape.empty(); }

  template <class... Index>
  double& operator()(Index... index) {
    size_t flat = 0, d = 0;
    ((flat = flat * static_cast<size_t>(shape[d++]) + static_cast<size_t>(index)), ...);
    return data[flat];
  }

  at::Tensor tensor() const { return at::tensor(data, at::kDouble).reshape(shape); }
};

struct Recurrence {
  Array q, k, v, g, beta, a, b, S, o;
  int64_t H, HV, K, V;
  double scale;
  Mistake mistake;
  int64_t writes;

  // Before write `w` of the row.
  double decay(int64_t row, int64_t w, int64_t first, int64_t h, int64_t d) {
    if (!g.defined() || w % writes != 0) return 1;
    int64_t t = w / writes;
    if (mistake == Mistake::decay_late && t-- == first) return 1;
    return std::exp(g.shape.size() == 3 ? g(row, t, h) : g(row, t, h, d));
  }

  // Write `t` of value head h; the state is S[n, h].
  void step(int64_t row, int64_t t, int64_t first, int64_t n, int64_t h) {
    const int64_t hq = mistake == Mistake::heads_tiled ? h % H : h / (HV / H);
    const auto read = [&](int64_t j) {
      double sum = 0;
      for (int64_t d = 0; d < K; ++d) sum += scale * q(row, t / writes, hq, d) * S(n, h, d, j);
      return sum;
    };
    for (int64_t j = 0; j < V; ++j) {
      if (mistake == Mistake::read_before_write) o(row, t / writes, h, j) = read(j);
      double undecayed_a = 0, undecayed_k = 0, decayed_a = 0, decayed_k = 0;
      for (int64_t d = 0; d < K; ++d) {
        double& s = S(n, h, d, j);
        if (a.defined()) undecayed_a += a(row, t, h, d) * s;
        undecayed_k += k(row, t, hq, d) * s;
        s *= decay(row, t, first, h, d);
        if (a.defined()) decayed_a += a(row, t, h, d) * s;
        decayed_k += k(row, t, hq, d) * s;
      }
      const double rate = beta.defined() && mistake != Mistake::beta_forgotten ? beta(row, t, h) : 1;
      double erased = mistake == Mistake::decay_after_erase ? undecayed_k : decayed_k;
      if (!beta.defined() || mistake == Mistake::erase_forgotten) erased = 0;
      double moved = mistake == Mistake::a_reads_decayed ? decayed_a : undecayed_a;
      if (mistake == Mistake::erase_forgotten) moved = 0;
      for (int64_t d = 0; d < K; ++d) {
        S(n, h, d, j) += k(row, t, hq, d) * rate * (v(row, t, h, j) - erased);
        if (b.defined()) S(n, h, d, j) += b(row, t, h, d) * moved;
      }
      // Each of a token's writes, so that the last one stays.
      if (mistake != Mistake::read_before_write) o(row, t / writes, h, j) = read(j);
    }
  }
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

std::vector<int64_t> offsets_of(const NamedTensors& in) {
  const at::Tensor cu_seqlens = find(in, "cu_seqlens");
  if (!cu_seqlens.defined()) return {};
  return {cu_seqlens.data_ptr<int64_t>(), cu_seqlens.data_ptr<int64_t>() + cu_seqlens.numel()};
}

// Batch row and tokens [first, last) of sequence n.
struct Span {
  int64_t row, first, last;
};

Span span_of(const std::vector<int64_t>& offsets, int64_t n, int64_t T) {
  if (offsets.empty()) return {n, 0, T};
  return {0, offsets[static_cast<size_t>(n)], offsets[static_cast<size_t>(n) + 1]};
}

}  // namespace

// Applies a layer's activations to raw inputs, with the other oracles.
static NamedTensors ready_inputs(const NamedTensors& in) {
  if (!find(in, "A_log").defined()) return in;
  const at::Tensor bound = find(in, "lower_bound");
  NamedTensors ready;
  for (const auto& [name, tensor] : in) {
    at::Tensor x = tensor;
    if (name == "q" || name == "k") x = l2norm_oracle({{"x", x}}, 1e-6)[0].tensor;
    if (name == "g") {
      const bool per_head = x.dim() == 3;
      const NamedTensors raw{
          {"raw", per_head ? x.unsqueeze(-1) : x}, {"A_log", find(in, "A_log")}, {"dt_bias", find(in, "dt_bias")}};
      x = kda_gate_oracle(raw, bound.defined() ? bound.item<double>() : 0)[0].tensor;
      if (per_head) x = x.squeeze(-1);
    }
    if (name == "beta") x = 2 / (1 + (-x.to(at::kDouble)).exp());
    ready.push_back({name, x});
  }
  return ready;
}

NamedTensors recurrence_oracle(const NamedTensors& given_inputs, Mistake mistake) {
  const NamedTensors in = ready_inputs(given_inputs);
  const std::vector<int64_t> offsets = offsets_of(in);
  const Array q(find(in, "q")), v(find(in, "v"));
  const int64_t T = q.shape[1], H = q.shape[2], K = q.shape[3], HV = v.shape[2], V = v.shape[3];
  const int64_t writes = v.shape[1] / T;
  const int64_t N = offsets.empty() ? q.shape[0] : static_cast<int64_t>(offsets.size()) - 1;
  Array S({N, HV, K, V});
  if (const Array given(find(in, "initial_state")); given.defined() && mistake != Mistake::initial_state_ignored) {
    S = given;
  }
  const double scale = mistake == Mistake::scale_forgotten ? 1 : 1 / std::sqrt(static_cast<double>(K));
  Recurrence run{q,
                 Array(find(in, "k")),
                 v,
                 Array(find(in, "g")),
                 Array(find(in, "beta")),
                 Array(find(in, "a")),
                 Array(find(in, "b")),
                 S,
                 Array({v.shape[0], T, HV, V}),
                 H,
                 HV,
                 K,
                 V,
                 scale,
                 mistake,
                 writes};
  for (int64_t n = 0; n < N; ++n) {
    const Span span = span_of(offsets, n, T);
    for (int64_t h = 0; h < HV; ++h) {
      for (int64_t d = 0; d < K && n > 0 && mistake == Mistake::sequences_mixed; ++d) {
        for (int64_t j = 0; j < V; ++j) run.S(n, h, d, j) = run.S(n - 1, h, d, j);
      }
      for (int64_t t = span.first * writes; t < span.last * writes; ++t) run.step(span.row, t, span.first, n, h);
    }
  }
  return {{"o", run.o.tensor()}, {"final_state", run.S.tensor()}};
}

NamedTensors short_conv_oracle(const NamedTensors& in, Mistake mistake) {
  Array x(find(in, "x")), weight(find(in, "weight")), bias(find(in, "bias")), past(find(in, "initial_state"));
  const std::vector<int64_t> offsets = offsets_of(in);
  const int64_t T = x.shape[1], D = x.shape[2], W = weight.shape[1];
  const int64_t N = offsets.empty() ? x.shape[0] : static_cast<int64_t>(offsets.size()) - 1;
  Array y(x.shape);
  for (int64_t n = 0; n < N; ++n) {
    const Span span = span_of(offsets, n, T);
    const auto at = [&](int64_t t, int64_t d) {
      const bool mixed = mistake == Mistake::sequences_mixed && t >= 0;
      if (t >= span.first || mixed) return x(span.row, t, d);
      return past.defined() && mistake != Mistake::past_ignored ? past(n, t - span.first + W - 1, d) : 0.0;
    };
    for (int64_t t = span.first; t < span.last; ++t) {
      for (int64_t d = 0; d < D; ++d) {
        double sum = bias.defined() && mistake != Mistake::bias_forgotten ? bias(d) : 0;
        for (int64_t w = 0; w < W; ++w) {
          sum += weight(d, mistake == Mistake::taps_reversed ? W - 1 - w : w) * at(t - W + 1 + w, d);
        }
        y(span.row, t, d) = sum;
      }
    }
  }
  return {{"y", y.tensor()}};
}

NamedTensors l2norm_oracle(const NamedTensors& in, double eps, Mistake mistake) {
  Array x(find(in, "x"));
  const auto D = static_cast<size_t>(x.shape.back());
  for (size_t row = 0; row < x.data.size(); row += D) {
    double sum = 0;
    for (size_t d = 0; d < D; ++d) sum += x.data[row + d] * x.data[row + d];
    const double added = mistake == Mistake::eps_on_mean ? eps * static_cast<double>(D) : eps;
    for (size_t d = 0; d < D; ++d) x.data[row + d] /= std::sqrt(sum + added);
  }
  return {{"y", x.tensor()}};
}

NamedTensors rms_norm_oracle(const NamedTensors& in, double eps, Mistake mistake) {
  Array x(find(in, "x")), weight(find(in, "weight")), gate(find(in, "gate"));
  const auto D = static_cast<size_t>(x.shape.back());
  for (size_t row = 0; row < x.data.size(); row += D) {
    double sum = 0;
    for (size_t d = 0; d < D; ++d) sum += x.data[row + d] * x.data[row + d];
    for (size_t d = 0; d < D; ++d) {
      x.data[row + d] /= std::sqrt(sum / static_cast<double>(D) + eps);
      if (mistake != Mistake::weight_forgotten) x.data[row + d] *= weight.data[d];
      if (gate.defined() && mistake != Mistake::gate_forgotten) x.data[row + d] *= logistic(gate.data[row + d]);
    }
  }
  return {{"y", x.tensor()}};
}

NamedTensors kda_gate_oracle(const NamedTensors& in, double lower_bound, Mistake mistake) {
  Array raw(find(in, "raw")), A_log(find(in, "A_log")), dt_bias(find(in, "dt_bias")), g(raw.shape);
  const auto H = static_cast<size_t>(raw.shape[2]), K = static_cast<size_t>(raw.shape[3]);
  for (size_t i = 0; i < raw.data.size(); ++i) {
    const size_t channel = i % (H * K);
    const bool biased = dt_bias.defined() && mistake != Mistake::bias_forgotten;
    const double x = raw.data[i] + (biased ? dt_bias.data[channel] : 0);
    const double A = A_log.defined() ? std::exp(A_log.data[channel / K]) : 1;
    const double softplus = x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
    g.data[i] = -A * softplus;
    if (lower_bound < 0) g.data[i] = lower_bound * logistic(A * x);
    if (mistake == Mistake::clamped_gate) g.data[i] = std::max(-A * softplus, lower_bound);
  }
  return {{"g", g.tensor()}};
}

}  // namespace klab
