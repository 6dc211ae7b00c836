// SPDX-License-Identifier: Apache-2.0
#include "core/train/muon.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>

#include "core/train/newton_schulz.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr double kUpdateRms = 0.2;  // of AdamW's updates, as measured by Liu et al.
// Elements of matrices that are orthogonalised together. More would not be faster and take more memory.
constexpr int64_t kBatchElements = 1 << 22;

std::vector<TrainedParameter> selected(const std::vector<TrainedParameter>& parameters,
                                       const std::map<std::string, ParameterRole>& roles, bool matrices) {
  std::vector<TrainedParameter> all;
  for (const TrainedParameter& parameter : parameters) {
    if ((roles.at(parameter.name) == ParameterRole::matrix) == matrices) all.push_back(parameter);
  }
  return all;
}

// With at most as many rows as columns.
Tensor wide(const Tensor& matrix) { return matrix.size(0) > matrix.size(1) ? matrix.t() : matrix; }

}  // namespace

Muon::Muon(const std::vector<TrainedParameter>& parameters, const std::map<std::string, ParameterRole>& roles,
           const MuonOptions& options, const AdamWOptions& others)
    : options_(options), others_(selected(parameters, roles, /*matrices=*/false), others) {
  for (const TrainedParameter& parameter : selected(parameters, roles, /*matrices=*/true)) {
    const auto sides = std::minmax({parameter.tensor.size(0), parameter.tensor.size(1)});
    matrices_[sides].push_back({parameter, torch::zeros_like(parameter.tensor)});
  }
}

void Muon::update(double lr) {
  for (const auto& [sides, matrices] : matrices_) {
    const auto most = static_cast<size_t>(std::max<int64_t>(1, kBatchElements / (sides.first * sides.second)));
    Batch batch;
    for (const Matrix& matrix : matrices) {
      if (!matrix.parameter.tensor.grad().defined()) continue;
      batch.push_back(&matrix);
      if (batch.size() == most) {
        update_batch(batch, lr);
        batch.clear();
      }
    }
    if (!batch.empty()) update_batch(batch, lr);
  }
  others_.step(lr);
}

void Muon::update_batch(const Batch& batch, double lr) const {
  const Tensor first = wide(batch.front()->parameter.tensor);
  const auto count = static_cast<int64_t>(batch.size());
  Tensor updates = at::empty({count, first.size(0), first.size(1)}, first.options().requires_grad(false));
  for (int64_t i = 0; i < count; ++i) {
    const Matrix& matrix = *batch[static_cast<size_t>(i)];
    const Tensor gradient = matrix.parameter.tensor.grad();
    Tensor momentum = matrix.momentum, update = updates[i];
    at::add_out(momentum, gradient, momentum, options_.momentum);
    at::add_out(update, wide(gradient), wide(momentum), options_.momentum);
  }
  updates = orthogonalised(std::move(updates));
  const double scale = kUpdateRms * std::sqrt(static_cast<double>(first.size(1)));
  for (int64_t i = 0; i < count; ++i) {
    const TrainedParameter& parameter = batch[static_cast<size_t>(i)]->parameter;
    const double own_lr = lr * parameter.lr_factor;
    Tensor weight = wide(parameter.tensor);
    weight.mul_(1 - own_lr * options_.weight_decay).add_(updates[i], -own_lr * scale);
  }
}

int64_t Muon::temporary_bytes() const {
  int64_t most = 0;
  for (const auto& [sides, matrices] : matrices_) {
    const auto [rows, cols] = sides;
    const auto count = std::clamp<int64_t>(kBatchElements / (rows * cols), 1, static_cast<int64_t>(matrices.size()));
    // The matrices and their results; three or four squares, see orthogonalised().
    most = std::max(most, count * (2 * rows * cols + 4 * rows * rows));
  }
  return most * static_cast<int64_t>(sizeof(float));
}

std::map<std::string, Tensor> Muon::state() const {
  std::map<std::string, Tensor> state = others_.state();
  for (const auto& [sides, matrices] : matrices_) {
    for (const Matrix& matrix : matrices) state["muon.momentum." + matrix.parameter.name] = matrix.momentum;
  }
  return state;
}

}  // namespace klab
