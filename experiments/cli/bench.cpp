// SPDX-License-Identifier: Apache-2.0
// klab bench: times every operator, and this machine's compute and memory ceilings in the same run.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/check/cases.h"
#include "core/check/matrix.h"
#include "experiments/bench/operator_times.h"
#include "experiments/bench/rank_step.h"
#include "experiments/bench/rollout.h"
#include "experiments/bench/training.h"
#include "experiments/command/command.h"
#include "experiments/command/ranks.h"
#include "experiments/run/device.h"
#include "experiments/run/dtype.h"
#include "kernels/linear/linear.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

struct BenchOptions {
  std::string filter;
  double seconds = 0.5;
  bool backward = false;
  std::string dtype = "float32", shape, implementation;
  TrainingWorkload training;  // its pattern is empty for operators and rollouts
  RolloutWorkload rollout;    // its pattern is empty for operators and training
  std::vector<int64_t> widths = {64, 128, 256};
};

// One line of the result; rates are per second.
struct Timing {
  std::string name;  // operator|shape
  double milliseconds, flops, bytes, written;
};

// Collects medians over repetitions; the table is printed at the end, relative to the ceilings.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) fail("benchmark {}: {}", run.run_name.function_name, run.error_message);
      if (run.run_type != Run::RT_Aggregate || run.aggregate_name != "median") continue;
      const auto counter = [&](const char* name) {
        const auto found = run.counters.find(name);
        return found == run.counters.end() ? 0.0 : found->second.value;
      };
      timings.push_back({run.run_name.function_name, run.GetAdjustedRealTime(), counter("flops"), counter("bytes"),
                         counter("written")});
      fmt::print(stderr, "\r\x1b[K{} benchmarks  {}", timings.size(), run.run_name.function_name);
    }
  }
  std::vector<Timing> timings;
};

int64_t bytes_of(const NamedTensors& tensors) {
  int64_t sum = 0;
  for (const NamedTensor& item : tensors) {
    if (item.tensor.defined()) sum += static_cast<int64_t>(item.tensor.nbytes());
  }
  return sum;
}

void synchronise(const at::Device& device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

// A call to be timed, the minimum number of bytes that it moves, and how many of these it writes.
struct Prepared {
  std::function<void()> call;
  double bytes = 0, written = 0;
};

// Registers the benchmark of a call that does `flops` operations. `prepare` is called once per benchmark, and its
// result is kept until the next benchmark starts: the inputs of all benchmarks together would not fit in memory.
void add(const std::string& name, double flops, double seconds, const at::Device& device,
         const std::function<Prepared()>& prepare) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  static std::string current;
  static Prepared prepared;
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 if (current != name) {
                                   prepared = {};
                                   prepared = prepare();
                                   current = name;
                                   prepared.call();
                                   synchronise(device);
                                 }
                                 for (auto _ : state) {
                                   prepared.call();
                                   synchronise(device);
                                 }
                                 state.counters["flops"] = benchmark::Counter(flops, rate);
                                 state.counters["bytes"] = benchmark::Counter(prepared.bytes, rate);
                                 state.counters["written"] = benchmark::Counter(prepared.written, rate);
                               })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->MinTime(seconds / 3)
      ->Repetitions(3)
      ->ReportAggregatesOnly();
}

// The machine's ceilings: matrix products with both available libraries, and reading, copying and modifying memory in
// place, on more data than the caches hold.
void add_ceilings(double seconds, const at::Device& device) {
  constexpr int64_t kSide = 1024, kFloats = 64 << 20;
  const double flops = 2.0 * kSide * kSide * kSide, bytes = 2.0 * kFloats * sizeof(float);
  const auto product = [=](auto multiply) {
    return [=] {
      const at::Tensor a = at::ones({kSide, kSide}, device), b = at::ones({kSide, kSide}, device);
      return Prepared{[=] { benchmark::DoNotOptimize(multiply(a, b)); }, 0};
    };
  };
  add("ceiling/product of matrices, ATen|1024", flops, seconds, device,
      product([](const at::Tensor& a, const at::Tensor& b) { return at::mm(a, b); }));
  add("ceiling/product of matrices, oneDNN|1024", flops, seconds, device,
      product([](const at::Tensor& a, const at::Tensor& b) { return kernels::linear(a, b); }));
  add("ceiling/read of memory|256 MiB", 0, seconds, device, [=] {
    const at::Tensor x = at::ones({kFloats}, device);
    return Prepared{[=] { benchmark::DoNotOptimize(x.sum()); }, bytes / 2};
  });
  add("ceiling/copy in memory|256 MiB", 0, seconds, device, [=] {
    const at::Tensor from = at::ones({kFloats}, device), to = at::ones({kFloats}, device);
    return Prepared{[=] { to.copy_(from); }, bytes, bytes / 2};
  });
  add("ceiling/change in place|256 MiB", 0, seconds, device, [=] {
    const at::Tensor x = at::ones({kFloats}, device);
    return Prepared{[=] { x.mul_(1.0f); }, bytes, bytes / 2};
  });
}

NamedTensors on(const OperatorCase& op, const NamedTensors& inputs, at::ScalarType dtype, const at::Device& device,
                bool gradients) {
  NamedTensors moved = copy_as(op, inputs, dtype, device);
  for (NamedTensor& item : moved) item.tensor.requires_grad_(gradients && item.tensor.is_floating_point());
  return moved;
}

void run_backward(const NamedTensors& outputs) {
  std::vector<at::Tensor> roots, gradients;
  for (const NamedTensor& item : outputs) {
    if (!item.tensor.defined() || !item.tensor.requires_grad()) continue;
    roots.push_back(item.tensor);
    gradients.push_back(at::ones_like(item.tensor));
  }
  torch::autograd::backward(roots, gradients);
}

// Rotates through copies of the inputs that together exceed the caches, so that states are cold at every call.
struct Turns {
  std::vector<NamedTensors> inputs;
  size_t next = 0;

  const NamedTensors& take() { return inputs[next++ % inputs.size()]; }
};

constexpr double kBeyondCaches = 512 << 20;

Prepared prepare(const OperatorCase& op, const Form& form, const Workload& workload, const BenchOptions& options,
                 const at::Device& device) {
  const at::ScalarType dtype = dtype_named(options.dtype);
  const auto turns = std::make_shared<Turns>();
  const auto add_inputs = [&] {
    turns->inputs.push_back(on(op, op.inputs(workload, turns->inputs.size() + 1), dtype, device, options.backward));
  };
  add_inputs();
  const NamedTensors once = op.run(form.implementation, turns->inputs[0]);
  const auto written = static_cast<double>(bytes_of(once));
  const double bytes = static_cast<double>(bytes_of(turns->inputs[0])) + written;
  while (workload.cold_states && static_cast<double>(turns->inputs.size()) * bytes < kBeyondCaches) add_inputs();
  return {[&op, form, turns, backward = options.backward] {
            const NamedTensors outputs = op.run(form.implementation, turns->take());
            if (backward) run_backward(outputs);
          },
          bytes, written};
}

void add_operators(const BenchOptions& options, const at::Device& device) {
  for (const OperatorCase& op : operator_cases()) {
    if (op.name.find(options.filter) == std::string::npos) continue;
    for (const Form& form : op.forms) {
      if (device.is_cpu() && !form.on_cpu) continue;
      if (options.backward && !form.differentiable) continue;
      for (const Workload& workload : op.benches) {
        if (options.backward && workload.cold_states) continue;  // decode has no backward pass
        if (workload.name.find(options.shape) == std::string::npos) continue;
        const std::string implementation = to_string(form.implementation);
        if (!options.implementation.empty() && options.implementation != implementation) continue;
        add(fmt::format("{}/{}|{}", op.name, implementation, workload.name), op.flops(workload), options.seconds,
            device, [&op, form, workload, options, device] { return prepare(op, form, workload, options, device); });
      }
    }
  }
}

std::string rate_text(double per_second) { return per_second > 0 ? fmt::format("{:.1f}", per_second / 1e9) : "-"; }

std::string share_text(double rate, double ceiling) {
  return rate > 0 && ceiling > 0 ? fmt::format("{:.1f}%", 100 * rate / ceiling) : "-";
}

bool has_cuda_kernels() {
  const auto all = kernels::recurrence_implementations();
  return std::find(all.begin(), all.end(), kernels::Implementation::cuda) != all.end();
}

std::vector<std::string> training_row(int64_t width, const TrainingSpeed& speed) {
  std::vector<std::string> row = {fmt::format("{}", width), fmt::format("{:.2f}", speed.milliseconds),
                                  fmt::format("{:.0f}", speed.tokens_per_second),
                                  fmt::format("{:.1f}", speed.flops / speed.milliseconds / 1e6),
                                  fmt::format("{:.1f}%", 100 * speed.share_of_product())};
  for (const std::string& category : time_categories()) {
    row.push_back(fmt::format("{:.1f}%", 100 * speed.shares.at(category)));
  }
  return row;
}

// `what` took so many milliseconds.
void print_slowest_operators(int64_t width, const std::vector<OperatorTime>& operators, double milliseconds,
                             const std::string& what) {
  constexpr size_t kMost = 10;
  std::vector<std::vector<std::string>> rows;
  for (const OperatorTime& one : operators) {
    if (rows.size() == kMost) break;
    rows.push_back({one.name, one.category, fmt::format("{:.2f}", one.milliseconds),
                    fmt::format("{:.1f}%", 100 * one.milliseconds / milliseconds)});
  }
  fmt::print("\nwidth {}\n{}", width,
             format_table({"operator", "counted as", "ms per " + what, "of the " + what}, rows));
}

// Training steps of a model over widths.
int bench_training(const BenchOptions& options, const Globals& globals) {
  std::vector<std::string> columns = {"width", "ms per step", "tokens/s", "GFLOP/s", "of product"};
  columns.insert(columns.end(), time_categories().begin(), time_categories().end());
  std::vector<std::vector<std::string>> rows;
  std::vector<TrainingSpeed> speeds;
  for (const int64_t width : options.widths) {
    TrainingWorkload workload = options.training;
    workload.width = width;
    workload.dtype = options.dtype;
    speeds.push_back(measure_training(workload, 10 * options.seconds));
    rows.push_back(training_row(width, speeds.back()));
  }
  const auto comments = provenance(globals.command_line, at::get_num_threads());
  TrainingWorkload trained = options.training;
  trained.dtype = options.dtype;
  fmt::print(
      "training steps of {} layers of {}, {} of {} tokens, {} tokens per step, {}; {}\n"
      "GFLOP/s counts three forward passes; shares of the time by kind of operator\n\n{}",
      trained.layers, fmt::join(trained.pattern, ","), trained.task, trained.length, trained.tokens, trained.dtype,
      comments[1], format_table(columns, rows));
  for (size_t i = 0; i < speeds.size(); ++i) {
    print_slowest_operators(options.widths[i], speeds[i].operators, speeds[i].milliseconds, "step");
  }
  if (!globals.out.empty()) write_file(globals.out, CsvTable{comments, columns, rows}.text());
  return 0;
}

// Steps on several ranks over widths.
int bench_rank_steps(const BenchOptions& options, const Globals& globals, const Parallelism& parallelism) {
  if (!parallelism.context->alone() || !parallelism.experts->alone() || parallelism.shard_optimizer) {
    refuse("bench --training on several processes does not accept --cp, --ep and --zero");
  }
  const std::vector<std::string> columns = {
      "ranks",      "width",      "alone ms", "in buckets ms", "after ms",
      "Reducer ms", "sending ms", "MB sent",  "hidden",        "hidden by Reducer"};
  std::vector<std::vector<std::string>> rows;
  for (const int64_t width : options.widths) {
    TrainingWorkload workload = options.training;
    workload.width = width;
    workload.dtype = options.dtype;
    const RankStepTimes times = measure_rank_step(workload, parallelism, 10 * options.seconds);
    const auto ms = [](double x) { return fmt::format("{:.2f}", x); };
    rows.push_back({fmt::format("{}", parallelism.ranks->size()), fmt::format("{}", width), ms(times.alone),
                    ms(times.overlap), ms(times.after), ms(times.reducer), ms(times.sending),
                    fmt::format("{:.2f}", 1e-6 * times.sent), fmt::format("{:.0f}%", 100 * times.hidden()),
                    fmt::format("{:.0f}%", 100 * times.hidden_by_reducer())});
  }
  if (!parallelism.ranks->first()) return 0;
  const auto comments = provenance(globals.command_line, at::get_num_threads());
  fmt::print(
      "forward and backward passes of {} layers of {}, {} tokens on every rank; {}\n"
      "alone: without sums over ranks; in buckets: sent during the backward pass; after: sent after it; Reducer: "
      "torch's own; hidden: the share of the time of sending that a step does not take longer\n\n{}",
      options.training.layers, fmt::join(options.training.pattern, ","), options.training.tokens, comments[1],
      format_table(columns, rows));
  if (!globals.out.empty()) write_file(globals.out, CsvTable{comments, columns, rows}.text());
  return 0;
}

std::vector<std::string> rollout_row(const RolloutWorkload& workload, const RolloutSpeed& speed) {
  const auto percent = [](double share) { return fmt::format("{:.1f}%", 100 * share); };
  std::vector<std::string> row = {fmt::format("{}", workload.width),
                                  fmt::format("{:.2f}", 1e3 * speed.seconds()),
                                  fmt::format("{:.0f}", speed.rollout_tokens_per_second()),
                                  fmt::format("{:.0f}", speed.update_tokens_per_second()),
                                  percent(speed.rollout_seconds / speed.seconds()),
                                  percent(speed.reward_seconds / speed.seconds()),
                                  percent(speed.update_seconds / speed.seconds()),
                                  fmt::format("{:.3f}", 1e3 * speed.rollout_seconds / workload.new_tokens)};
  for (const std::string& category : rollout_categories()) row.push_back(percent(speed.shares.at(category)));
  return row;
}

// Iterations of reinforcement learning over widths.
int bench_rollout(const BenchOptions& options, const Globals& globals) {
  std::vector<std::string> columns = {"width",   "ms per iteration", "rollout tokens/s", "update tokens/s",
                                      "rollout", "reward",           "update",           "ms per token step"};
  columns.insert(columns.end(), rollout_categories().begin(), rollout_categories().end());
  std::vector<std::vector<std::string>> rows;
  std::vector<RolloutSpeed> speeds;
  RolloutWorkload workload = options.rollout;
  workload.layers = options.training.layers;
  workload.head_dim = options.training.head_dim;
  workload.dtype = options.dtype;
  for (const int64_t width : options.widths) {
    workload.width = width;
    speeds.push_back(measure_rollout(workload, 10 * options.seconds));
    rows.push_back(rollout_row(workload, speeds.back()));
  }
  const auto comments = provenance(globals.command_line, at::get_num_threads());
  fmt::print(
      "reinforcement learning of {} layers of {}: {} answers of {} tokens to each of {} prompts of some {}, sampled in "
      "{}; {}\n"
      "tokens are those of answers; shares of the time, then of rollouts by kind of operator\n\n{}",
      workload.layers, fmt::join(workload.pattern, ","), workload.samples, workload.new_tokens, workload.prompts,
      workload.prompt_tokens, workload.dtype, comments[1], format_table(columns, rows));
  for (size_t i = 0; i < speeds.size(); ++i) {
    print_slowest_operators(options.widths[i], speeds[i].operators, 1e3 * speeds[i].rollout_seconds, "rollout");
  }
  if (!globals.out.empty()) write_file(globals.out, CsvTable{comments, columns, rows}.text());
  return 0;
}

int bench(const BenchOptions& options, const Globals& globals) {
  if (!options.training.pattern.empty() && !options.rollout.pattern.empty()) {
    refuse("--training and --rollout cannot be used together");
  }
  if (!options.training.pattern.empty()) {
    return on_ranks(globals, [&](const Globals& here, const Parallelism& parallelism) {
      return parallelism.ranks->alone() ? bench_training(options, here) : bench_rank_steps(options, here, parallelism);
    });
  }
  if (globals.processes > 1) refuse("only bench --training runs on several processes");
  if (!options.rollout.pattern.empty()) return bench_rollout(options, globals);
  const at::Device device = open_device(globals.device);
  add_ceilings(options.seconds, device);
  add_operators(options, device);
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  fmt::print(stderr, "\r\x1b[K");
  benchmark::Shutdown();

  // Calls that write little are compared with the read bandwidth, others with the highest bandwidth.
  const auto only_reads = [](const Timing& timing) { return timing.written < 0.05 * timing.bytes; };
  double most_flops = 0, most_bytes = 0, most_read = 0;
  for (const Timing& timing : collector.timings) {
    if (timing.name.rfind("ceiling/", 0) != 0) continue;
    most_flops = std::max(most_flops, timing.flops);
    most_bytes = std::max(most_bytes, timing.bytes);
    if (only_reads(timing)) most_read = std::max(most_read, timing.bytes);
  }
  const std::vector<std::string> columns = {"operator",   "shape", "milliseconds", "GFLOP/s",
                                            "of product", "GB/s",  "of memory"};
  std::vector<std::vector<std::string>> rows;
  for (const Timing& timing : collector.timings) {
    const size_t bar = timing.name.find('|');
    rows.push_back({timing.name.substr(0, bar), timing.name.substr(bar + 1), fmt::format("{:.3f}", timing.milliseconds),
                    rate_text(timing.flops), share_text(timing.flops, most_flops), rate_text(timing.bytes),
                    share_text(timing.bytes, only_reads(timing) ? most_read : most_bytes)});
  }
  const auto comments = provenance(globals.command_line, at::get_num_threads());
  fmt::print("{} pass, {}, medians of 3; GFLOP/s counts the forward pass, GB/s its inputs and outputs once; {}\n\n{}",
             options.backward ? "forward and backward" : "forward", options.dtype, comments[1],
             format_table(columns, rows));
  if (device.is_cpu() && has_cuda_kernels()) {
    fmt::print("\nThis build also has CUDA kernels, which experiments/bench/gpu/run checks and times on a GPU.\n");
  }
  if (!globals.out.empty()) write_file(globals.out, CsvTable{comments, columns, rows}.text());
  return 0;
}

void add_training_options(CommandOptions& app, TrainingWorkload& training) {
  app.add_option("--training", training.pattern,
                 "time training steps instead, and where their time goes: of models of this pattern, kda or kda*3,mla; "
                 "on several processes: what the sums of gradients cost")
      .comma_separated();
  app.add_option("--task", training.task, "task of --training").one_of({"mqar", "language"}).show_default();
  app.add_option("--layers", training.layers, "layers of the models of --training and --rollout")
      .positive()
      .show_default();
  app.add_option("--head-dim", training.head_dim, "width of a head").positive().show_default();
  app.add_option("--length", training.length, "tokens of its sequences").positive().show_default();
  app.add_option("--tokens", training.tokens, "tokens per step").positive().show_default();
}

void add_rollout_options(CommandOptions& app, RolloutWorkload& rollout) {
  app.add_option("--rollout", rollout.pattern,
                 "time iterations of reinforcement learning instead: of models of this pattern, which sample answers "
                 "and are updated on them")
      .comma_separated();
  app.add_option("--prompts", rollout.prompts, "prompts of an iteration").positive().show_default();
  app.add_option("--samples", rollout.samples, "answers to each prompt").positive().show_default();
  app.add_option("--prompt-tokens", rollout.prompt_tokens, "mean length of a prompt").positive().show_default();
  app.add_option("--new-tokens", rollout.new_tokens, "length of every answer").positive().show_default();
}

}  // namespace

Command bench_command() {
  return {"bench", "time every operator and this machine's compute and memory ceilings",
          "./klab bench --operator recurrence/channel --threads 2",
          takes::threads | takes::device | takes::out | takes::ranks | takes::layout,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<BenchOptions>();
            app.add_option("--operator", options->filter, "only operators whose name contains this");
            app.add_option("--implementation", options->implementation, "only this implementation")
                .one_of({"automatic", "reference", "composed", "chunk", "cpu", "cuda"});
            app.add_option("--shape", options->shape, "only shapes whose name contains this: T=1024, T=8192, decode");
            app.add_option("--dtype", options->dtype,
                           "dtype of the inputs, train.dtype of --training, or rl.rollout_dtype of --rollout")
                .one_of(kDtypeNames)
                .show_default();
            app.add_option("--seconds", options->seconds, "time per benchmark").between(0.01, 600.0);
            app.add_flag("--backward", options->backward, "forward and backward pass together");
            add_training_options(app, options->training);
            add_rollout_options(app, options->rollout);
            app.add_option("--widths", options->widths, "widths of the models of --training and --rollout")
                .comma_separated()
                .positive()
                .show_default();
            return [options, &globals] { return bench(*options, globals); };
          }};
}

}  // namespace klab
