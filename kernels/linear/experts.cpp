// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/experts.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "kernels/common/checks.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/linear/cpu/experts.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/weight_matrix.h"

namespace klab::kernels {

struct ExpertTable::ForCpu {
  std::string unsupported_reason;    ///< why the CPU kernel cannot read these weights, or ""
  std::vector<cpu::Expert> experts;  ///< the shared expert is the last one
};

namespace {

using at::Tensor;

constexpr const char* kOp = "experts";
// Up to this many tokens, one kernel for all experts is faster than library products per expert (measured).
constexpr int64_t kFewTokens = 16;

void check_expert(const ExpertWeights& expert, const std::string& name, int64_t D, const Tensor& like) {
  const auto check = [&](const char* field, const Tensor& weight, const Tensor& scale, int64_t N, int64_t K) {
    const std::string full = name + "." + field;
    check_weight(kOp, full, weight, full + "_scale", scale, N, K, like);
    TORCH_CHECK_VALUE(weight.numel() > 0, kOp, ": ", full, " is empty");
  };
  check("gate", expert.gate, expert.gate_scale, -1, D);
  const int64_t M = expert.gate.size(0);
  check("up", expert.up, expert.up_scale, M, D);
  check("down", expert.down, expert.down_scale, D, M);
}

std::string weights_cpu_unsupported_reason(const ExpertWeights& expert) {
  for (const Tensor& weight : {expert.gate, expert.up, expert.down}) {
    const std::string why = cpu_unsupported_reason({weight});
    if (!why.empty()) return why;
    if (!has_plain_rows(weight)) return "the rows of a weight are not contiguous";
  }
  return "";
}

cpu::Expert cpu_expert_of(const ExpertWeights& expert) {
  return {weight_matrix_of(expert.gate, expert.gate_scale), weight_matrix_of(expert.up, expert.up_scale),
          weight_matrix_of(expert.down, expert.down_scale)};
}

// The kernel needs contiguous float32 scales.
void make_scales_plain(ExpertWeights& expert) {
  for (Tensor* scale : {&expert.gate_scale, &expert.up_scale, &expert.down_scale}) *scale = plain_float(*scale);
}

void check(const ExpertsInputs& in) {
  TORCH_CHECK_VALUE(in.table != nullptr, kOp, ": table is missing");
  TORCH_CHECK_VALUE(in.x.defined(), kOp, ": x is missing");
  check_tensor(kOp, "x", in.x, {-1, in.table->width()}, in.table->expert(0).gate);
  TORCH_CHECK_VALUE(in.chosen.defined(), kOp, ": chosen is missing");
  TORCH_CHECK_VALUE(in.chosen.scalar_type() == at::kLong, kOp, ": chosen has dtype ", in.chosen.scalar_type(),
                    ", but must be int64");
  TORCH_CHECK_VALUE(in.chosen.dim() == 2 && in.chosen.size(0) == in.x.size(0), kOp, ": chosen has shape ",
                    in.chosen.sizes(), ", but must have [", in.x.size(0), ", k]");
  check_tensor(kOp, "weights", in.weights, in.chosen.sizes(), in.x);
}

// The expert ids on the host, checked to be in range.
Tensor checked_ids(const ExpertsInputs& in) {
  const Tensor ids = in.chosen.to(at::kCPU).contiguous();  // [n, k]
  const int64_t* data = ids.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    TORCH_CHECK_VALUE(data[i] >= 0 && data[i] < in.table->count(), kOp, ": chosen has expert ", data[i],
                      ", but must lie in 0..", in.table->count() - 1);
  }
  return ids;
}

bool expert_needs_gradient(const ExpertWeights& expert) {
  return records_gradient({expert.gate, expert.up, expert.down, expert.gate_scale, expert.up_scale, expert.down_scale});
}

bool any_gradient(const ExpertsInputs& in, const Tensor& ids) {
  if (!at::GradMode::is_enabled()) return false;
  if (records_gradient({in.x, in.weights})) return true;
  if (in.table->shared() != nullptr && expert_needs_gradient(*in.table->shared())) return true;
  const int64_t* id = ids.const_data_ptr<int64_t>();
  return std::any_of(id, id + ids.numel(), [&](int64_t e) { return expert_needs_gradient(in.table->expert(e)); });
}

std::string experts_cpu_unsupported_reason(const ExpertsInputs& in, const Tensor& ids) {
  if (any_gradient(in, ids)) return "it has no backward pass and a gradient is needed";
  if (!in.table->for_cpu().unsupported_reason.empty()) return in.table->for_cpu().unsupported_reason;
  return cpu_unsupported_reason({in.x});
}

// The routing: one slot for each pair of a token and an expert, sorted by expert id and then by token. The shared
// expert (id E, weight 1) comes last.
struct Slots {
  struct Visit {
    int64_t expert, first, count;
  };
  std::vector<Visit> visits;
  std::vector<int64_t> token;  // of each slot
  std::vector<double> weight;
};

Slots sorted_slots(const ExpertsInputs& in, const Tensor& ids) {
  const int64_t n = ids.size(0), k = ids.size(1), E = in.table->count(), shared = in.table->shared() != nullptr ? n : 0;
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const Tensor weights = in.weights.detach().to(at::kCPU, at::kDouble).contiguous();
  Slots slots;
  std::vector<int64_t> next(static_cast<size_t>(E) + 1, 0);  // the next slot of each expert
  for (int64_t i = 0; i < n * k; ++i) ++next[static_cast<size_t>(id[i]) + 1];
  for (int64_t e = 0; e < E; ++e) {
    const int64_t first = next[static_cast<size_t>(e)], count = next[static_cast<size_t>(e) + 1];
    if (count > 0) slots.visits.push_back({e, first, count});
    next[static_cast<size_t>(e) + 1] += first;
  }
  slots.token.resize(static_cast<size_t>(n * k + shared));
  slots.weight.resize(slots.token.size(), 1.0);
  for (int64_t i = 0; i < n * k; ++i) {
    const auto slot = static_cast<size_t>(next[static_cast<size_t>(id[i])]++);
    slots.token[slot] = i / k;
    slots.weight[slot] = weights.const_data_ptr<double>()[i];
  }
  if (shared > 0) slots.visits.push_back({E, n * k, n});
  for (int64_t t = 0; t < shared; ++t) slots.token[static_cast<size_t>(n * k + t)] = t;
  return slots;
}

Tensor on_cpu(const ExpertsInputs& in, const Tensor& ids) {
  const Tensor x = with_plain_rows(in.x), y = empty_result(x.sizes(), x.options());
  if (y.numel() == 0) return y;
  cpu::ExpertsProblem problem;
  problem.tokens = x.size(0);
  problem.D = x.size(1);
  problem.x = flat_rows_of(x);
  problem.y = mutable_flat_rows_of(y);
  Slots slots = sorted_slots(in, ids);
  for (const Slots::Visit& visit : slots.visits) {
    const cpu::Expert& expert = in.table->for_cpu().experts[static_cast<size_t>(visit.expert)];
    problem.visits.push_back({&expert, visit.first, visit.count});
  }
  problem.token = std::move(slots.token);
  problem.weight.assign(slots.weight.begin(), slots.weight.end());
  const Tensor space = float_workspace(cpu::experts_workspace(problem), x);
  cpu::experts(problem, floats(space));
  return y;
}

// Adds weight times rows [count, D] to the rows `token` of y [n, D].
void add_weighted(const Tensor& y, const Tensor& rows, const Slots& slots, const Slots::Visit& visit) {
  const int64_t* token = slots.token.data() + visit.first;
  const double* weight = slots.weight.data() + visit.first;
  const bool twice = std::adjacent_find(token, token + visit.count) != token + visit.count;  // tokens are sorted
  if (twice || y.scalar_type() != at::kFloat || !cpu_unsupported_reason({rows}).empty()) {
    const Tensor index = at::tensor(at::ArrayRef<int64_t>(token, static_cast<size_t>(visit.count)), at::kLong);
    const Tensor factor = at::tensor(at::ArrayRef<double>(weight, static_cast<size_t>(visit.count)), y.options());
    y.index_add_(0, index.to(y.device()), rows.to(y.scalar_type()) * factor.unsqueeze(1));
    return;
  }
  const std::vector<float> factors(weight, weight + visit.count);
  const Tensor plain = with_plain_rows(rows);
  cpu::AddRowsProblem problem;
  problem.count = visit.count;
  problem.D = y.size(1);
  problem.token = token;
  problem.weight = factors.data();
  problem.rows = flat_rows_of(plain);
  problem.y = floats(y);
  cpu::add_rows(problem);
}

// Runs each expert once on all its tokens, with library products. Besides y, only the rows of one expert are in memory,
// so that they stay in the caches.
Tensor by_expert(const ExpertsInputs& in, const Tensor& ids) {
  const Tensor y = at::zeros(in.x.sizes(), in.x.options().dtype(accumulation_type(in.x.scalar_type())));
  if (y.numel() == 0) return y.to(in.x.scalar_type());
  const Slots slots = sorted_slots(in, ids);
  for (const Slots::Visit& visit : slots.visits) {
    const bool shared = visit.expert == in.table->count();
    const ExpertWeights& expert = shared ? *in.table->shared() : in.table->expert(visit.expert);
    const int64_t* token = slots.token.data() + visit.first;
    const Tensor index = at::tensor(at::ArrayRef<int64_t>(token, static_cast<size_t>(visit.count)), at::kLong);
    const Tensor rows = shared ? in.x : in.x.index_select(0, index.to(in.x.device()));
    const Tensor gate = kernels::linear(rows, expert.gate, expert.gate_scale);
    const Tensor hidden = at::silu(gate) * kernels::linear(rows, expert.up, expert.up_scale);
    add_weighted(y, kernels::linear(hidden, expert.down, expert.down_scale), slots, visit);
  }
  return y.to(in.x.scalar_type());
}

// The definition uses floating-point weights unrounded, converted to the accumulation dtype.
Tensor definition_linear(const Tensor& x, const Tensor& weight, const Tensor& scale) {
  return weight.scalar_type() == at::kChar ? kernels::linear(x, weight, scale)
                                           : kernels::linear(x, weight.to(x.scalar_type()));
}

Tensor definition(const ExpertWeights& expert, const Tensor& x) {
  const Tensor gate = definition_linear(x, expert.gate, expert.gate_scale);
  const Tensor up = definition_linear(x, expert.up, expert.up_scale);
  return definition_linear(at::silu(gate) * up, expert.down, expert.down_scale);
}

Tensor reference(const ExpertsInputs& in, const Tensor& ids) {
  const at::ScalarType sums = accumulation_type(in.x.scalar_type());
  const Tensor x = in.x.to(sums), weights = in.weights.to(sums);
  if (x.numel() == 0) return at::zeros_like(in.x);
  std::vector<Tensor> rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const Tensor row = x.narrow(0, t, 1);  // [1, D]
    Tensor y = at::zeros_like(row);
    for (int64_t j = 0; j < ids.size(1); ++j) {
      const int64_t e = ids.const_data_ptr<int64_t>()[t * ids.size(1) + j];
      y = y + weights.select(0, t).select(0, j) * definition(in.table->expert(e), row);
    }
    if (in.table->shared() != nullptr) y = y + definition(*in.table->shared(), row);
    rows.push_back(y);
  }
  return at::cat(rows).to(in.x.scalar_type());
}

}  // namespace

ExpertTable::ExpertTable(std::vector<ExpertWeights> experts, ExpertWeights shared)
    : experts_(std::move(experts)), shared_(std::move(shared)) {
  TORCH_CHECK_VALUE(!experts_.empty(), kOp, ": experts is empty");
  TORCH_CHECK_VALUE(experts_.front().gate.defined() && experts_.front().gate.dim() == 2, kOp,
                    ": experts[0].gate must be [M, D]");
  width_ = experts_.front().gate.size(1);
  const Tensor like = experts_.front().gate;
  const auto plain = std::make_shared<ForCpu>();
  for_cpu_ = plain;
  const auto add = [&](ExpertWeights& expert, const std::string& name) {
    check_expert(expert, name, width_, like);
    make_scales_plain(expert);
    if (plain->unsupported_reason.empty()) plain->unsupported_reason = weights_cpu_unsupported_reason(expert);
    if (plain->unsupported_reason.empty()) plain->experts.push_back(cpu_expert_of(expert));
  };
  for (size_t e = 0; e < experts_.size(); ++e) add(experts_[e], "experts[" + std::to_string(e) + "]");
  const bool has_shared = shared_.gate.defined() || shared_.up.defined() || shared_.down.defined();
  if (has_shared) add(shared_, "shared");
}

Tensor experts(const ExpertsInputs& in, Implementation implementation) {
  check(in);
  const Tensor ids = checked_ids(in);
  const std::string unsupported = experts_cpu_unsupported_reason(in, ids);
  switch (implementation) {
    case Implementation::reference: return reference(in, ids);
    case Implementation::cpu:
      TORCH_CHECK_NOT_IMPLEMENTED(unsupported.empty(), kOp, ": the CPU kernel cannot run: ", unsupported);
      return on_cpu(in, ids);
    case Implementation::composed:
      TORCH_CHECK_NOT_IMPLEMENTED(!any_gradient(in, ids), kOp, ": the composed form has no backward pass");
      return by_expert(in, ids);
    case Implementation::automatic:
      if (any_gradient(in, ids)) return reference(in, ids);
      return unsupported.empty() && in.x.size(0) <= kFewTokens ? on_cpu(in, ids) : by_expert(in, ids);
    default:
      TORCH_CHECK_NOT_IMPLEMENTED(false, kOp, ": there is no implementation '", to_string(implementation),
                                  "' of it; there are 'reference', 'composed' and 'cpu'");
  }
}

std::vector<Implementation> experts_implementations() {
  return {Implementation::reference, Implementation::composed, Implementation::cpu};
}

}  // namespace klab::kernels
