// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/rank_step.h"

#include <torch/nn/module.h>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <chrono>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "core/train/gradient_sums.h"
#include "core/train/score.h"
#include "experiments/bench/timing.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;
using torch::Tensor;

// Forward and backward passes of one model, with gradients summed in several ways.
class Step {
 public:
  Step(const TrainingWorkload& workload, const Parallelism& parallelism)
      : parallelism_(parallelism), model_(make_model(workload.config())) {
    const RunConfig config = workload.config();
    model_->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
    batch_ = batch_source(config.task, parallelism.ranks->rank() + 1, config.train.batch, Split::train)(0);
  }

  // Times `work` once, after all ranks have come.
  double time(const std::function<void()>& work) const {
    parallelism_.ranks->barrier();
    const Clock::time_point begin = Clock::now();
    work();
    return 1e3 * std::chrono::duration<double>(Clock::now() - begin).count();
  }

  void backward() {
    Tensor loss;
    score_batch(model_, batch_, &loss);
    loss.backward();
  }

  void step(GradientSums& sums) {
    sums.begin_step();
    sums.begin_last_part();
    backward();
    sums.end_last_part();
  }

  // Of zeros, as many as there are gradients.
  static void send(GradientSums& sums) {
    sums.begin_step();
    sums.begin_last_part();
    sums.end_last_part();
  }

  void reduced(c10d::Reducer& reducer) {
    for (const auto& [name, parameter] : own_parameters(*model_)) Tensor(parameter).mutable_grad().reset();
    reducer.prepare_for_backward({});
    backward();
  }

  GradientSums sums(const Parallelism& parallelism, std::optional<int64_t> bucket = std::nullopt) const {
    return {model_, model_, parallelism, bucket};
  }

  std::unique_ptr<c10d::Reducer> reducer() const {
    std::vector<Tensor> parameters;
    int64_t bytes = 0;
    for (const TrainedParameter& one : trained_parameters(*model_)) {
      parameters.push_back(one.tensor);
      bytes += static_cast<int64_t>(one.tensor.nbytes());
    }
    std::vector<size_t> all(parameters.size());
    std::iota(all.begin(), all.end(), 0);
    // It makes its own buckets after the first step, in the order in which gradients are complete.
    return std::make_unique<c10d::Reducer>(
        parameters, std::vector<std::vector<size_t>>{all}, parallelism_.ranks->torch_group(),
        std::vector<bool>(parameters.size(), false), usual_bucket_bytes(bytes), /*find_unused_parameters=*/false,
        /*gradient_as_bucket_view=*/true, std::unordered_map<size_t, std::string>{}, /*first_bucket_bytes_cap=*/1 << 20,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>{});
  }

 private:
  const Parallelism& parallelism_;
  Decoder model_;
  Batch batch_;
};

}  // namespace

RankStepTimes measure_rank_step(const TrainingWorkload& workload, const Parallelism& parallelism, double seconds) {
  RankGroup& ranks = *parallelism.ranks;
  Step step(workload, parallelism);
  std::map<std::string, std::vector<double>> times;
  int64_t sent = 0;
  // Each way in a round of its own, because the hooks of one would also run in the steps of another.
  const auto repeat = [&](const std::string& name, const std::function<void()>& work) {
    for (int i = 0; i < 2; ++i) step.time(work);
    const Clock::time_point begin = Clock::now();
    bool more = true;
    while (more) {
      const int64_t before = ranks.bytes_sent();
      times[name].push_back(step.time(work));
      sent = ranks.bytes_sent() - before;
      const bool enough = std::chrono::duration<double>(Clock::now() - begin).count() > seconds / 15;
      more = ranks.largest(torch::tensor({enough ? 0 : 1}))[0].item<int64_t>() != 0;
    }
  };
  RankStepTimes result;
  for (int round = 0; round < 3; ++round) {
    {
      GradientSums sums = step.sums(Parallelism{});
      repeat("alone", [&] { step.step(sums); });
    }
    {
      GradientSums sums = step.sums(parallelism);
      repeat("sending", [&] { Step::send(sums); });
      repeat("overlap", [&] { step.step(sums); });
      result.sent =
          static_cast<double>(ranks.sum(torch::tensor({sent}))[0].item<int64_t>()) / static_cast<double>(ranks.size());
    }
    {
      GradientSums sums = step.sums(parallelism, std::numeric_limits<int64_t>::max());
      repeat("after", [&] { step.step(sums); });
    }
    const std::unique_ptr<c10d::Reducer> reducer = step.reducer();
    repeat("reducer", [&] { step.reduced(*reducer); });
  }
  const auto slowest = [&](const std::string& name) {
    return ranks.largest(torch::tensor({median(times[name])}, torch::kDouble))[0].item<double>();
  };
  result.alone = slowest("alone");
  result.overlap = slowest("overlap");
  result.after = slowest("after");
  result.reducer = slowest("reducer");
  result.sending = slowest("sending");
  return result;
}

}  // namespace klab
