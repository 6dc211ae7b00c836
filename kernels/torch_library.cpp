#include <ATen/ATen.h>
#include <torch/library.h>

#include "kernels/recurrence.h"
namespace klab::kernels {
namespace {
using at::Tensor;
std::tuple<Tensor, Tensor> recurrence_op(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& g,
    const std::optional<Tensor>& beta, const std::optional<Tensor>& a, const std::optional<Tensor>& b, std::string impl) {
  RecurrenceInputs in;
  in.q=q; in.k=k; in.v=v; in.g=g.value_or(Tensor()); in.beta=beta.value_or(Tensor()); in.a=a.value_or(Tensor()); in.b=b.value_or(Tensor());
  auto out = recurrence(in, impl=="chunk"?Implementation::chunk: impl=="cpu"?Implementation::cpu:Implementation::automatic);
  return {out.o,out.final_state};
}
}
}
TORCH_LIBRARY(klab, m) {
  m.def("recurrence(Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? beta, Tensor? a, Tensor? b, str impl) -> (Tensor, Tensor)", klab::kernels::recurrence_op);
}
