// SPDX-License-Identifier: Apache-2.0
// Cases of softmax attention, latent attention (absorbed form) and rotary position embedding.
#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "core/check/inputs.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/attention/rotary.h"

namespace klab {
namespace {

using at::Tensor;
using kernels::Implementation;

constexpr double kLatentScale = 0.1;

// HV query heads read H key and value heads.
OperatorCase attention_case(const std::string& name, const std::string& serves, bool forget,
                            std::optional<int64_t> window = {}) {
  OperatorCase result;
  result.name = name;
  result.serves = serves;
  for (const Implementation implementation : kernels::attention_implementations()) {
    result.forms.push_back(
        {.implementation = implementation, .is_definition = implementation == Implementation::reference});
  }
  result.workloads = {
      {"two tokens", 1, 2, 2, 2, 16, 16, true},     {"odd sizes", 2, 63, 3, 3, 60, 60, true},
      {"grouped keys", 2, 65, 2, 4, 32, 32, true},  {"wider keys", 1, 100, 2, 2, 24, 16, true},
      {"wider values", 1, 100, 1, 4, 16, 40, true}, {"long", 1, 1000, 2, 2, 64, 64},
  };
  Workload decode{"one token, a past", 2, 1, 2, 4, 32, 32, true}, chunk{"a chunk, a past", 2, 33, 2, 4, 20, 20, true};
  decode.past = 77;
  chunk.past = 70;
  result.workloads.insert(result.workloads.end(), {decode, chunk});
  result.benches = {{"T=2048, 16 heads", 1, 2048, 16, 16, 128, 128}};
  result.wide = {"g"};
  result.amplification = 4;  // of rounding errors in the logits, by exp
  // ATen's fused attention rounds the weights before their product with the values.
  result.sums_in_own_dtype = !forget;
  result.inputs = [forget](const Workload& w, uint64_t seed) {
    at::Generator generator = seeded_generator(seed);
    const int64_t S = w.past + w.T;
    NamedTensors in{{"q", normal({w.B, w.T, w.HV, w.K}, generator)},
                    {"k", normal({w.B, S, w.H, w.K}, generator)},
                    {"v", normal({w.B, S, w.H, w.V}, generator)}};
    if (forget) in.push_back({"g", log_decays({w.B, S, w.HV}, Gates::ordinary, generator)});
    return in;
  };
  result.run = [window](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"o", kernels::attention({find(in, "q"), find(in, "k"), find(in, "v"), find(in, "g"), {}, window},
                                     implementation)}};
  };
  result.definition = [run = result.run](const NamedTensors& in) { return run(Implementation::reference, in); };
  result.terms = [](const Workload& w, std::string_view) { return w.past + w.T + w.K + w.V; };
  result.flops = [window](const Workload& w) {
    const double head = window ? kernels::windowed_attention_flops(w.T, w.past, *window, w.K, w.V)
                               : kernels::attention_flops(w.T, w.past, w.K, w.V);
    return static_cast<double>(w.B * w.HV) * head;
  };
  return result;
}

// K is the width of a cached row, V the width of its latent part.
Tensor latent(const NamedTensors& in, Implementation implementation) {
  return kernels::latent_attention(
      {find(in, "q"), find(in, "cache"), find(in, "value_dim").item<int64_t>(), kLatentScale}, implementation);
}

OperatorCase latent_case() {
  OperatorCase result;
  result.name = "latent_attention";
  result.serves = "MLA, decoding";
  // Inference only, without gradients. The composed form, ATen's fused attention, is checked by attention_case().
  for (const Implementation implementation : kernels::latent_attention_implementations()) {
    if (implementation == Implementation::composed) continue;
    const bool cuda = implementation == Implementation::cuda, reference = implementation == Implementation::reference;
    result.forms.push_back({.implementation = implementation,
                            .differentiable = false,
                            .in_float64 = reference,
                            .on_cpu = !cuda,
                            .narrow_operands = cuda,
                            .is_definition = reference});
  }
  const auto workload = [](const char* name, int64_t B, int64_t T, int64_t H, int64_t K, int64_t V, int64_t past,
                           bool quick) {
    Workload w{name, B, T, H, 1, K, V, quick};
    w.past = past;
    return w;
  };
  result.workloads = {
      workload("two tokens", 1, 1, 1, 24, 16, 1, true),
      workload("odd sizes", 2, 1, 3, 37, 29, 76, true),
      workload("several tokens", 2, 5, 3, 40, 32, 60, true),
      workload("one past a block", 1, 1, 32, 72, 64, 64, true),
      workload("no key part", 1, 2, 5, 48, 48, 33, true),
      workload("many rows", 1, 33, 4, 40, 32, 100, true),
      workload("several parts", 1, 2, 8, 80, 64, 2600, false),
      workload("a batch", 33, 1, 70, 40, 32, 130, false),
      workload("public widths", 1, 1, 32, 576, 512, 1100, false),
  };
  for (const int64_t heads : {2, 8, 32}) {
    Workload decode = workload("", 1, 1, heads, 576, 512, 32767, false);
    decode.name = "decode, " + std::to_string(heads) + " heads, 32768 cached";
    decode.cold_states = true;
    result.benches.push_back(decode);
  }
  result.amplification = 4;
  result.inputs = [](const Workload& w, uint64_t seed) -> NamedTensors {
    at::Generator generator = seeded_generator(seed);
    return {{"q", normal({w.B, w.T, w.H, w.K}, generator)},
            {"cache", normal({w.B, w.past + w.T, w.K}, generator)},
            {"value_dim", at::full({1}, w.V, at::kLong)}};
  };
  result.run = [](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"o", latent(in, implementation)}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors {
    return {{"o", latent(in, Implementation::reference)}};
  };
  result.terms = [](const Workload& w, std::string_view) { return w.past + w.T + w.K + w.V; };
  result.flops = [](const Workload& w) {
    return static_cast<double>(w.B * w.T) * kernels::latent_attention_flops(w.H, w.past + w.T, w.V, w.K - w.V);
  };
  return result;
}

// --- Rotary position embedding ------------------------------------------------------------------------------------

constexpr double kRotaryBase = 10000;

// Channels (i, i + K / 2) as a complex number, rotated by the angle position * base^(-2 i / K).
NamedTensors rotary_definition(const NamedTensors& in) {
  const Tensor x = find(in, "x");
  const int64_t half = x.size(3) / 2;
  const Tensor exponents = at::arange(half, x.options()) / static_cast<double>(half);
  const Tensor angles =
      find(in, "positions").to(at::kDouble).unsqueeze(-1) * (-exponents * std::log(kRotaryBase)).exp();
  const Tensor turned = at::complex(x.narrow(3, 0, half), x.narrow(3, half, half)) *
                        at::polar(at::ones_like(angles), angles).unsqueeze(2);
  return {{"y", at::cat({at::real(turned), at::imag(turned)}, -1)}};
}

OperatorCase rotary_case() {
  OperatorCase result;
  result.name = "rotary";
  result.serves = "attention";
  // Not in float64, where the rounding of the angles, which grows with the position, would dominate the error.
  result.forms = {{.implementation = Implementation::automatic, .in_float64 = false}};
  Workload far{"far positions", 1, 20, 2, 2, 64, 64};
  far.past = 1000000;
  result.workloads = {{"one token", 2, 1, 2, 2, 8, 8, true}, {"odd sizes", 2, 63, 3, 3, 60, 60, true}, far};
  result.benches = {{"T=4096 H=16 K=128", 1, 4096, 16, 16, 128, 128}};
  result.inputs = [](const Workload& w, uint64_t seed) -> NamedTensors {
    at::Generator generator = seeded_generator(seed);
    return {{"x", normal({w.B, w.T, w.H, w.K}, generator)},
            {"positions", (w.past + at::arange(w.T, at::kLong)).expand({w.B, w.T}).contiguous()}};
  };
  result.run = [](Implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::rotary(find(in, "x"), find(in, "positions"), kRotaryBase)}};
  };
  result.definition = rotary_definition;
  result.terms = [](const Workload&, std::string_view) { return int64_t{2}; };
  result.flops = [](const Workload& w) { return 3 * static_cast<double>(w.B * w.T * w.H * w.K); };
  return result;
}

}  // namespace

std::vector<OperatorCase> attention_cases() {
  return {attention_case("attention", "attention, MLA", false), attention_case("attention/forget", "FoX", true),
          attention_case("attention/window", "sliding-window attention", false, 48), latent_case(), rotary_case()};
}

}  // namespace klab
