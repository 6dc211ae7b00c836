// SPDX-License-Identifier: Apache-2.0
#include "mixers/products.h"

#include <ATen/ATen.h>

#include <atomic>
#include <string>

namespace klab {
namespace {

std::atomic<double> total{0};
std::atomic<int64_t> count{0};

double product(const at::Tensor& a, const at::Tensor& b) {  // [.., m, k] and [.., k, n]
  return 2 * static_cast<double>(a.numel()) * static_cast<double>(b.size(-1));
}

// FLOPs of an ATen operator; 0 if it is not a matrix product.
double flops_of(const at::RecordFunction& function) {
  const std::string name = function.name();
  const auto tensor = [&](size_t i) { return function.inputs()[i].toTensor(); };  // not every event has inputs
  if (name == "aten::mm" || name == "aten::bmm") return product(tensor(0), tensor(1));
  if (name == "aten::addmm" || name == "aten::baddbmm") return product(tensor(1), tensor(2));
  if (name == "aten::mv" || name == "aten::dot") return 2 * static_cast<double>(tensor(0).numel());
  // x [.., k] and a weight [n, k].
  if (name == "mkldnn::_linear_pointwise") return product(tensor(0), tensor(1).transpose(0, 1));
  if (name == "klab::linear") {  // x and any number of weights
    double sum = 0;
    for (size_t i = 1; i < function.inputs().size(); ++i) sum += product(tensor(0), tensor(i).transpose(0, 1));
    return sum;
  }
  if (name == "aten::_scaled_dot_product_flash_attention_for_cpu") {  // [B, H, T, K], [B, HK, S, K]
    const at::Tensor q = tensor(0), k = tensor(1);
    const double pairs = static_cast<double>(q.numel()) * static_cast<double>(k.size(2)) * 4;
    return function.inputs()[4].toBool() ? pairs / 2 : pairs;
  }
  return 0;
}

std::unique_ptr<at::ObserverContext> observe(const at::RecordFunction& function) {
  const double flops = flops_of(function);
  if (flops > 0) {
    total = total + flops;
    ++count;
  }
  return nullptr;
}

}  // namespace

ProductCounter::ProductCounter() {
  total = 0;
  count = 0;
  handle_ =
      at::addGlobalCallback(at::RecordFunctionCallback(observe).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

ProductCounter::~ProductCounter() { at::removeCallback(handle_); }

double ProductCounter::flops() const { return total; }

int64_t ProductCounter::calls() const { return count; }

}  // namespace klab
