// The CUDA kernels of the recurrence, emulated on the host: the check matrix, under several schedules, and what a missing
// barrier does.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "backend.h"
#include "core/check/matrix.h"
#include "emulation.h"
#include "kernels/recurrence.h"

namespace klab {
namespace {

TEST(Cuda, Try) {
  kernels::cuda::use_backend(&emulation::emulated_backend());
  torch::manual_seed(1);
  const at::NoGradGuard no_grad;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t T : {5, 16, 50}) {
    for (const int64_t K : {64, 100}) {
      kernels::RecurrenceInputs in;
      const auto x = [&](at::IntArrayRef shape) { return torch::randn(shape).to(type); };
      in.q = torch::nn::functional::normalize(torch::randn({2, T, 2, K}), torch::nn::functional::NormalizeFuncOptions().dim(-1)).to(type);
      in.k = torch::nn::functional::normalize(torch::randn({2, T, 2, K}), torch::nn::functional::NormalizeFuncOptions().dim(-1)).to(type);
      in.v = x({2, T, 4, 40});
      in.g = -torch::rand({2, T, 4, K}) * 0.1;
      in.beta = torch::rand({2, T, 4});
      in.initial_state = torch::randn({2, 4, K, 40});
      const auto start = std::chrono::steady_clock::now();
      const auto out = kernels::recurrence(in, kernels::Implementation::cuda);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const auto expected = kernels::recurrence(in, kernels::Implementation::reference);
      const auto rms = [](const at::Tensor& z, const at::Tensor& y) { return ((z.to(at::kDouble) - y.to(at::kDouble)).norm() / y.to(at::kDouble).norm()).item<double>(); };
      std::cout << type << " T " << T << " K " << K << " o " << rms(out.o, expected.o) << " state " << rms(out.final_state, expected.final_state) << " " << seconds << " s\n";
    }
    }
  }
}

}  // namespace
}  // namespace klab
