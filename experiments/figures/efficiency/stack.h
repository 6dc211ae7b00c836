// SPDX-License-Identifier: Apache-2.0
// Timing of a few layers of the 48B shape, and a cost model of FLOPs and bytes that is fitted to the times.
#pragma once

#include <string>
#include <vector>

#include "core/model/decoder.h"

namespace klab {

/// A model that the report compares.
struct StackKind {
  std::string name;                  ///< "MLA", "GDN hybrid", "KDA hybrid"
  std::vector<std::string> pattern;  ///< of the four measured layers, and of the whole model
};
const std::vector<StackKind>& stack_kinds();

/// Sizes of the measured layers, and maximum lengths.
struct StackScale {
  int64_t layers, width, heads, head_dim, experts, expert_width, chunk;
  int64_t longest_prefill, longest_decode;
};
StackScale stack_scale(const std::string& name);

/// The config of `layers` layers of a kind; the last one is MLA.
ModelConfig stack_config(const StackKind& kind, const StackScale& scale, int64_t layers, int64_t experts);

/// The work of a forward pass in the cost model.
struct Work {
  double weight_bytes = 0;     ///< bytes of weights that are read
  double product_flops = 0;    ///< FLOPs of everything except attention
  double attention_flops = 0;  ///< FLOPs of queries against the cache
};

/// Prefill of `tokens` tokens in chunks, without the head.
Work prefill_work(const ModelConfig& config, int64_t chunk, int64_t tokens);

/// Decode of one token for each of `batch` sequences after `tokens` tokens, without the head.
Work decode_work(const ModelConfig& config, int64_t batch, int64_t tokens);

/// Bytes of one sequence's states and caches after `tokens` tokens, in the model's dtypes (bfloat16 and float32).
double sequence_bytes(const ModelConfig& config, int64_t tokens);

struct Measured {
  std::string stack, phase;  ///< phase: prefill or decode
  int64_t tokens, batch;
  double seconds;
  Work work;
};

/// Rates of work, fitted to times: seconds = weight_bytes / a + product_flops / b + attention_flops / c,
/// with the smallest sum of squared relative errors and no negative rate. A rate of 0 means that the work is free.
struct Rates {
  double bytes = 0, products = 0, attention = 0;  ///< per second
  double worst_error = 0;                         ///< largest relative error of the fit
  double seconds(const Work& work) const;
};

/// Which rates to fit, because not all can be separated: prefill is compute-bound, and the weights that its chunks read
/// grow in proportion to the products; decode of one sequence is bandwidth-bound, and its products are constant.
enum class FitTerms { products_attention, bytes_attention, all };
Rates fit_rates(const std::vector<Measured>& measured, FitTerms terms);

/// Times a stack of random weights in bfloat16: prefill and decode at doubling lengths. Caches for decode are filled
/// with a constant, which does not affect the time. decode() uses one sequence, decode_batches() the largest batch
/// whose states and caches fit in `cache_budget` bytes. Stops early after `seconds_left`.
class StackTimer {
 public:
  StackTimer(const StackKind& kind, const StackScale& scale, bool quiet);
  std::vector<Measured> prefill(double seconds_left);
  std::vector<Measured> decode(double seconds_left);
  std::vector<Measured> decode_batches(double seconds_left, double cache_budget);

 private:
  Measured timed_decode(int64_t tokens, int64_t batch);
  void note(const Measured& measured) const;

  StackKind kind_;
  StackScale scale_;
  ModelConfig config_;
  Decoder model_{nullptr};
  bool quiet_;
};

}  // namespace klab
