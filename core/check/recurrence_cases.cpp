// SPDX-License-Identifier: Apache-2.0
// Cases of the recurrence, with every decay and update.
#include <ATen/ATen.h>

#include "core/check/inputs.h"
#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_cost.h"

namespace klab {
namespace {

using kernels::Decay;
using kernels::Implementation;
using kernels::RecurrenceInputs;
using kernels::RecurrenceOutputs;
using kernels::Update;

// `ready`: normalised q and k, log-decays, beta in [0, 1]. `raw`: a layer's projections, with the L2 norm, gate and
// sigmoid in the kernel; `raw_bounded`: with the bounded gate.
enum class Inputs { ready, raw, raw_bounded };

struct Member {
  const char* name;
  const char* serves;
  Decay decay;
  Update update;
  Inputs inputs = Inputs::ready;
  int64_t writes = 1;
};

constexpr Member kFamily[] = {
    {"recurrence/none/accumulate", "linear attention", Decay::none, Update::accumulate},
    {"recurrence/scalar/accumulate", "Mamba2, RetNet", Decay::scalar, Update::accumulate},
    {"recurrence/channel/accumulate", "GLA, HGRN2", Decay::channel, Update::accumulate},
    {"recurrence/none/delta", "DeltaNet, Longhorn", Decay::none, Update::delta},
    {"recurrence/scalar/delta", "GDN", Decay::scalar, Update::delta},
    {"recurrence/channel/delta", "KDA", Decay::channel, Update::delta},
    {"recurrence/none/dplr", "IPLR", Decay::none, Update::dplr},
    {"recurrence/scalar/dplr", "Comba", Decay::scalar, Update::dplr},
    {"recurrence/channel/dplr", "DPLR, RWKV-7, GDN-2", Decay::channel, Update::dplr},
    {"recurrence/raw/scalar/delta", "GDN", Decay::scalar, Update::delta, Inputs::raw},
    {"recurrence/raw/channel/delta", "KDA", Decay::channel, Update::delta, Inputs::raw},
    {"recurrence/bounded/channel/delta", "KDA", Decay::channel, Update::delta, Inputs::raw_bounded},
    {"recurrence/writes/channel/delta", "gated DeltaProduct", Decay::channel, Update::delta, Inputs::ready, 2},
    {"recurrence/raw/writes/scalar/delta", "gated DeltaProduct", Decay::scalar, Update::delta, Inputs::raw, 3},
};

std::vector<Workload> workloads(const Member& member) {
  std::vector<Workload> all{
      {"one token", 2, 1, 2, 2, 8, 8, true, Gates::ordinary, true},
      {"odd sizes, grouped", 1, 63, 2, 4, 60, 100, true},
      {"one past a chunk", 2, 65, 1, 1, 100, 60, false, Gates::ordinary, true},
      {"long", 1, 1000, 1, 1, 64, 64, false, Gates::ordinary, true},
      {"widest", 1, 40, 1, 1, 256, 256, false, Gates::ordinary, true},
      {"packed", 1, 165, 1, 2, 16, 24, true, Gates::ordinary, true, {0, 15, 16, 100, 165}},
      {"strong gates", 1, 130, 1, 2, 32, 16, false, Gates::strong, true},
      {"saturated gates", 1, 130, 1, 2, 32, 16, false, Gates::saturated, true},
      {"resets", 1, 130, 1, 2, 32, 16, true, Gates::resets, true},
      {"blocked", 1, 130, 1, 2, 32, 16, true, Gates::blocked, true},
  };
  // The output of the gate is always ordinary.
  const bool ordinary = member.decay == Decay::none || member.inputs != Inputs::ready;
  if (ordinary) std::erase_if(all, [](const Workload& w) { return w.gates != Gates::ordinary; });
  if (member.writes > 1) std::erase_if(all, [](const Workload& w) { return w.T > 200; });  // to save time
  return all;
}

NamedTensors make_ready_inputs(const Member& member, const Workload& w, at::Generator& generator) {
  const int64_t TW = w.T * member.writes;
  NamedTensors in;
  in.push_back({"q", directions({w.B, w.T, w.H, w.K}, generator)});
  in.push_back({"k", directions({w.B, TW, w.H, w.K}, generator)});
  in.push_back({"v", normal({w.B, TW, w.HV, w.V}, generator)});
  if (member.decay == Decay::scalar) in.push_back({"g", log_decays({w.B, w.T, w.HV}, w.gates, generator)});
  if (member.decay == Decay::channel) in.push_back({"g", log_decays({w.B, w.T, w.HV, w.K}, w.gates, generator)});
  if (member.update == Update::delta) in.push_back({"beta", uniform({w.B, TW, w.HV}, 0, 1, generator)});
  if (member.update == Update::dplr) {
    // I + b a^T contracts along one direction, as in every mixer of this kind.
    const at::Tensor a = directions({w.B, TW, w.HV, w.K}, generator);
    in.push_back({"a", a});
    in.push_back({"b", -a * uniform({w.B, TW, w.HV, 1}, 0, 1, generator)});
  }
  return in;
}

// A layer's projections and the gate's parameters.
NamedTensors make_raw_inputs(const Member& member, const Workload& w, at::Generator& generator) {
  const int64_t per_head = member.decay == Decay::channel ? w.K : 1, TW = w.T * member.writes;
  NamedTensors in;
  in.push_back({"q", normal({w.B, w.T, w.H, w.K}, generator)});
  in.push_back({"k", normal({w.B, TW, w.H, w.K}, generator)});
  in.push_back({"v", normal({w.B, TW, w.HV, w.V}, generator)});
  const at::Tensor g = normal({w.B, w.T, w.HV, per_head}, generator);
  in.push_back({"g", member.decay == Decay::channel ? g : g.squeeze(-1)});
  in.push_back({"beta", normal({w.B, TW, w.HV}, generator)});
  // As in the initialisation of the layers; smaller for the bounded gate, so that it does not saturate.
  const bool bounded = member.inputs == Inputs::raw_bounded;
  in.push_back({"A_log", uniform({w.HV}, bounded ? 0.5 : 1, bounded ? 2 : 16, generator).log()});
  in.push_back({"dt_bias", normal({w.HV * per_head}, generator) - (bounded ? 1 : 4)});
  if (bounded) in.push_back({"lower_bound", at::full({1}, -5, at::kLong)});
  return in;
}

NamedTensors make_inputs(const Member& member, const Workload& w, uint64_t seed) {
  at::Generator generator = seeded_generator(seed);
  NamedTensors in;
  if (member.inputs != Inputs::ready) {
    in = make_raw_inputs(member, w, generator);
  } else {
    in = make_ready_inputs(member, w, generator);
  }
  if (w.cold_states) in.push_back({"overwrite_state", at::ones({1}, at::kLong)});
  if (w.initial_state) in.push_back({"initial_state", normal({w.sequences(), w.HV, w.K, w.V}, generator)});
  if (!w.offsets.empty()) in.push_back({"cu_seqlens", at::tensor(w.offsets, at::kLong)});
  return in;
}

NamedTensors run(Implementation implementation, const NamedTensors& in) {
  RecurrenceInputs inputs;
  inputs.q = find(in, "q");
  inputs.k = find(in, "k");
  inputs.v = find(in, "v");
  inputs.g = find(in, "g");
  inputs.beta = find(in, "beta");
  inputs.a = find(in, "a");
  inputs.b = find(in, "b");
  inputs.writes = inputs.k.size(1) / inputs.q.size(1);
  inputs.initial_state = find(in, "initial_state");
  inputs.cu_seqlens = find(in, "cu_seqlens");
  inputs.overwrite_state = find(in, "overwrite_state").defined();
  if (find(in, "A_log").defined()) {
    inputs.qk_l2norm = inputs.beta_sigmoid = inputs.allow_neg_eigval = true;
    inputs.gate = kernels::RecurrenceGate{find(in, "A_log"), find(in, "dt_bias")};
    const at::Tensor bound = find(in, "lower_bound");
    if (bound.defined()) inputs.gate->lower_bound = static_cast<double>(bound.item<int64_t>());
  }
  const RecurrenceOutputs out = kernels::recurrence(inputs, implementation);
  return {{"o", out.o}, {"final_state", out.final_state}};
}

constexpr int64_t kKernelChunk = 16;

double flops(const Member& member, const Workload& w) {
  const auto heads = static_cast<double>(w.HV), writes = static_cast<double>(w.B * member.writes);
  if (w.T == 1) return writes * heads * kernels::recurrence_step_flops(member.update, w.K, w.V);
  return heads * kernels::recurrence_flops(member.update, w.B * w.T * member.writes, w.K, w.V, kKernelChunk);
}

OperatorCase make_case(const Member& member) {
  OperatorCase result;
  result.name = member.name;
  result.serves = member.serves;
  for (const Implementation implementation : kernels::recurrence_implementations()) {
    const bool cuda = implementation == Implementation::cuda;
    const auto takes_backward = [](at::ScalarType dtype, const Workload& w) {
      return dtype != at::kFloat || w.K <= 128;
    };
    result.forms.push_back({.implementation = implementation,
                            .in_float64 = !cuda && implementation != Implementation::cpu,
                            .on_cpu = !cuda,
                            .narrow_operands = cuda,
                            .is_definition = implementation == Implementation::reference});
    if (cuda) result.forms.back().has_backward = takes_backward;
  }
  result.workloads = workloads(member);
  Workload decode{"decode, 32 heads", 1, 1, 32, 32, 128, 128};
  decode.initial_state = decode.cold_states = true;
  result.benches = {{"T=1024, 16 heads", 1, 1024, 16, 16, 128, 128},
                    {"T=8192, 16 heads", 1, 8192, 16, 16, 128, 128},
                    {"T=8192, one head", 1, 8192, 1, 1, 128, 128},
                    decode};
  result.wide = {"g", "beta", "initial_state", "final_state", "A_log", "dt_bias"};
  result.inputs = [member](const Workload& w, uint64_t seed) { return make_inputs(member, w, seed); };
  result.run = run;
  result.definition = [](const NamedTensors& in) { return run(Implementation::reference, in); };
  // The state is a sum over tokens, a read of it a sum over K. In the backward pass gradients of k and q are also sums
  // over V, and those of the gate's parameters are sums over all tokens and channels.
  result.terms = [writes = member.writes](const Workload& w, std::string_view tensor) {
    const bool of_gate = tensor == "d_A_log" || tensor == "d_dt_bias";
    return w.T * writes + w.K + (tensor.starts_with("d_") ? w.V : 0) + (of_gate ? w.B * w.T * w.K : 0);
  };
  result.flops = [member](const Workload& w) { return flops(member, w); };
  return result;
}

}  // namespace

std::vector<OperatorCase> recurrence_cases() {
  std::vector<OperatorCase> cases;
  for (const Member& member : kFamily) cases.push_back(make_case(member));
  return cases;
}

}  // namespace klab
