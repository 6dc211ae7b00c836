// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/efficiency/stack.h"

#include <fmt/format.h>
#include <torch/nn/module.h>

#include <Eigen/Dense>
#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/model/accounting.h"
#include "experiments/bench/timing.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/latent_attention.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

constexpr int64_t kShortest = 4096, kVocabulary = 1024, kPoolNumbers = int64_t{1} << 22;
constexpr double kEnough = 3;  // seconds per length of decode

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Fills the weights with random values of a realistic scale.
void fill(const Decoder& model) {
  const Tensor pool = 0.02 * torch::randn({kPoolNumbers});
  int64_t at = 0;
  for (Tensor& parameter : model->parameters()) {
    Tensor flat = parameter.detach().view({-1});
    for (int64_t start = 0; start < flat.numel();) {
      const int64_t count = std::min(flat.numel() - start, kPoolNumbers - at);
      flat.narrow(0, start, count).copy_(pool.narrow(0, at, count));
      start += count;
      at = (at + count) % kPoolNumbers;
    }
    parameter.set_requires_grad(false);
  }
}

int64_t count_of(const ModelConfig& config, const std::string& mixer) {
  const std::vector<std::string> all = config.layer_mixers();
  return std::count(all.begin(), all.end(), mixer);
}

Decoder without_memory(const ModelConfig& config) {
  const ParameterPlace nowhere(torch::kMeta, torch::kBFloat16);
  return Decoder(config, kVocabulary);
}

// Expected bytes of the weights that `tokens` tokens use, with the probability that an expert is used by any of them.
double weight_bytes(const ModelConfig& config, const Decoder& model, int64_t tokens) {
  double bytes = 0;
  for (const DecoderLayer& layer : model->layers()) {
    const FeedForward& feed_forward = *layer->feed_forward();
    const auto all = static_cast<double>(parameter_count(feed_forward));
    const double idle = all - static_cast<double>(feed_forward.activated_parameters());
    const double chosen = static_cast<double>(config.moe.experts_per_token) / static_cast<double>(config.moe.experts);
    const double routed = idle / (1 - chosen);
    const double touched = routed * (1 - std::pow(1 - chosen, static_cast<double>(tokens)));
    bytes += 2 * (static_cast<double>(parameter_count(*layer->mixer())) + all - routed + touched);
  }
  return bytes;
}

}  // namespace

const std::vector<StackKind>& stack_kinds() {
  static const std::vector<StackKind> kinds = {
      {"MLA", {"mla"}}, {"GDN hybrid", {"gdn*3", "mla"}}, {"KDA hybrid", {"kda*3", "mla"}}};
  return kinds;
}

StackScale stack_scale(const std::string& name) {
  if (name == "smoke") return {4, 128, 4, 32, 8, 64, 512, 2048, 16384};
  return {4, 2304, 32, 128, 64, 1024, 2048, 32768, 1 << 20};
}

ModelConfig stack_config(const StackKind& kind, const StackScale& scale, int64_t layers, int64_t experts) {
  ModelConfig config(mixers());
  config.layers = layers;
  config.width = scale.width;
  config.heads = scale.heads;
  config.head_dim = scale.head_dim;
  config.pattern = kind.pattern;
  config.last_layer = "mla";
  config.mlp_width = 4 * scale.width;
  config.first_dense = layers > scale.layers ? 1 : 0;
  config.moe.experts = experts;
  config.moe.expert_width = scale.expert_width;
  config.validate();
  return config;
}

Work prefill_work(const ModelConfig& config, int64_t chunk, int64_t tokens) {
  const Decoder model = without_memory(config);
  const auto heads = static_cast<double>(config.heads), mla = static_cast<double>(count_of(config, "mla"));
  const auto keys = config.head_dim + (config.head_dim + 3) / 4 * 2;
  Work work;
  work.attention_flops = mla * heads * kernels::attention_flops(tokens, 0, keys, config.head_dim);
  for (const DecoderLayer& layer : model->layers()) {
    work.product_flops += layer->flops(tokens);
  }
  work.product_flops -= work.attention_flops;
  // Every chunk expands the whole cache again: two products with the latent for each head's keys and values.
  const double expand =
      2.0 * static_cast<double>(4 * config.head_dim) * heads * static_cast<double>(2 * config.head_dim);
  for (int64_t past = chunk; past < tokens; past += chunk)
    work.product_flops += mla * expand * static_cast<double>(past);
  work.weight_bytes = std::ceil(static_cast<double>(tokens) / static_cast<double>(chunk)) *
                      weight_bytes(config, model, std::min(chunk, tokens));
  return work;
}

Work decode_work(const ModelConfig& config, int64_t batch, int64_t tokens) {
  const Decoder model = without_memory(config);
  const auto mla = static_cast<double>(count_of(config, "mla")), rows = static_cast<double>(batch);
  Work work;
  work.attention_flops =
      rows * mla *
      kernels::latent_attention_flops(config.heads, tokens + 1, 4 * config.head_dim, (config.head_dim + 3) / 4 * 2);
  for (const DecoderLayer& layer : model->layers()) {
    work.product_flops += rows * layer->decode_flops(tokens);
  }
  work.product_flops -= work.attention_flops;
  work.weight_bytes = weight_bytes(config, model, batch);
  return work;
}

double sequence_bytes(const ModelConfig& config, int64_t tokens) {
  const Decoder model = without_memory(config);
  double bytes = 0;
  for (const DecoderLayer& layer : model->layers()) {
    bytes += static_cast<double>(layer->mixer()->state_bytes(tokens));
  }
  return bytes;
}

double Rates::seconds(const Work& work) const {
  const auto part = [](double amount, double rate) { return rate > 0 ? amount / rate : 0; };
  return part(work.weight_bytes, bytes) + part(work.product_flops, products) + part(work.attention_flops, attention);
}

Rates fit_rates(const std::vector<Measured>& measured, FitTerms terms) {
  if (measured.empty()) fail("nothing was measured");
  Eigen::MatrixXd all(measured.size(), 3);
  for (size_t i = 0; i < measured.size(); ++i) {  // relative errors: divides every row by its time
    const Work& work = measured[i].work;
    all.row(static_cast<Eigen::Index>(i)) =
        Eigen::RowVector3d(work.weight_bytes, work.product_flops, work.attention_flops) / measured[i].seconds;
  }
  if (terms == FitTerms::products_attention) all.col(0).setZero();
  if (terms == FitTerms::bytes_attention) all.col(1).setZero();
  const Eigen::RowVector3d scale = all.cwiseAbs().colwise().maxCoeff();
  const Eigen::VectorXd ones = Eigen::VectorXd::Ones(all.rows());
  Rates best;
  double least = std::numeric_limits<double>::infinity();
  for (int kept = 1; kept < 8; ++kept) {  // positive rates only: tries all subsets of the terms
    std::vector<int> columns;
    for (int j = 0; j < 3; ++j) {
      if ((kept >> j & 1) != 0 && scale[j] > 0) columns.push_back(j);
    }
    if (columns.empty()) continue;
    const Eigen::MatrixXd rows = all(Eigen::all, columns) * scale(columns).cwiseInverse().asDiagonal();
    const Eigen::VectorXd x = rows.colPivHouseholderQr().solve(ones);
    const double error = (rows * x - ones).squaredNorm();
    if (x.minCoeff() <= 0 || error >= least) continue;
    least = error;
    double rate[3] = {};
    for (size_t j = 0; j < columns.size(); ++j) rate[columns[j]] = scale[columns[j]] / x[static_cast<Eigen::Index>(j)];
    best = {rate[0], rate[1], rate[2], 0};
  }
  for (const Measured& one : measured) {
    best.worst_error = std::max(best.worst_error, std::abs(best.seconds(one.work) / one.seconds - 1));
  }
  return best;
}

StackTimer::StackTimer(const StackKind& kind, const StackScale& scale, bool quiet)
    : kind_(kind), scale_(scale), config_(stack_config(kind, scale, scale.layers, scale.experts)), quiet_(quiet) {
  const ParameterPlace place(torch::kCPU, torch::kBFloat16);
  model_ = Decoder(config_, kVocabulary);
  fill(model_);
}

void StackTimer::note(const Measured& one) const {
  if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted; nothing was written");
  if (quiet_) return;
  fmt::print(stderr, "{:10}  {:7}  {:>8} tokens  batch {:>4}  {:>9.3f} s\n", one.stack, one.phase, one.tokens,
             one.batch, one.seconds);
}

std::vector<Measured> StackTimer::prefill(double seconds_left) {
  const c10::InferenceMode inference;
  std::vector<Measured> all;
  State state = model_->initial_state(1, torch::kCPU);
  model_->hidden(torch::zeros({1, scale_.chunk}, torch::kLong), {}, &state);  // warm-up
  state = model_->initial_state(1, torch::kCPU);
  const int64_t shortest = std::min(kShortest, scale_.longest_prefill / 4);
  double spent = 0, last = 0;
  int64_t done = 0;
  for (int64_t tokens = shortest; tokens <= scale_.longest_prefill; tokens *= 2) {
    if (spent + 3 * last > seconds_left) break;  // the next length takes two to four times as long
    const Clock::time_point start = Clock::now();
    for (; done < tokens; done += scale_.chunk) {
      model_->hidden(torch::randint(kVocabulary, {1, scale_.chunk}, torch::kLong), {}, &state);
      if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted; nothing was written");
    }
    last = seconds_since(start);
    spent += last;
    all.push_back({kind_.name, "prefill", tokens, 1, spent, prefill_work(config_, scale_.chunk, tokens)});
    note(all.back());
  }
  return all;
}

Measured StackTimer::timed_decode(int64_t tokens, int64_t batch) {
  const c10::InferenceMode inference;
  State state = model_->initial_state(batch, torch::kCPU);
  for (State& part : state.parts) {
    for (auto& [name, cache] : part.caches) {
      std::vector<int64_t> shape = cache.sizes().vec();
      shape[1] = cache_capacity(tokens + kCacheBlock);
      cache = torch::full(shape, 0.02, cache.options());
    }
    std::fill(part.lengths.begin(), part.lengths.end(), tokens);
  }
  const Tensor next = torch::randint(kVocabulary, {batch, 1}, torch::kLong);
  model_->hidden(next, {}, &state);  // warm-up
  std::vector<double> times;
  const Clock::time_point begin = Clock::now();
  while (times.size() < 3 || (times.size() < 20 && seconds_since(begin) < kEnough)) {
    const Clock::time_point start = Clock::now();
    model_->hidden(next, {}, &state);
    times.push_back(seconds_since(start));
    if (times.back() > kEnough) break;
  }
  const Measured one{kind_.name, "decode", tokens, batch, median(times), decode_work(config_, batch, tokens)};
  note(one);
  return one;
}

std::vector<Measured> StackTimer::decode(double seconds_left) {
  const Clock::time_point start = Clock::now();
  std::vector<Measured> all;
  for (int64_t tokens = kShortest; tokens <= scale_.longest_decode; tokens *= 2) {
    if (seconds_since(start) > seconds_left) break;
    all.push_back(timed_decode(tokens, 1));
  }
  return all;
}

std::vector<Measured> StackTimer::decode_batches(double seconds_left, double cache_budget) {
  const Clock::time_point start = Clock::now();
  std::vector<Measured> all;
  for (int64_t tokens = kShortest; tokens <= scale_.longest_decode; tokens *= 2) {
    const auto batch = static_cast<int64_t>(cache_budget / sequence_bytes(config_, tokens));
    if (batch < 1 || seconds_since(start) > seconds_left) break;
    all.push_back(timed_decode(tokens, batch));
  }
  return all;
}

}  // namespace klab
