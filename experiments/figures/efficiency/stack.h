// Layers of the 48B shape, few of them, timed; and the model of FLOPs and bytes that explains their times.
#pragma once

#include <string>
#include <vector>

#include "core/model/decoder.h"

namespace klab {

/// What the report compares.
struct StackKind {
  std::string name;                  ///< "MLA", "GDN hybrid", "KDA hybrid"
  std::vector<std::string> pattern;  ///< of the four layers that are measured, and of the whole model
};
const std::vector<StackKind>& stack_kinds();

/// How large the measured layers are, and how far they are measured.
struct StackScale {
  int64_t layers, width, heads, head_dim, experts, expert_width, chunk;
  int64_t longest_prefill, longest_decode;
};
StackScale stack_scale(const std::string& name);

/// The config of `layers` layers of a kind; the last one is MLA.
ModelConfig stack_config(const StackKind& kind, const StackScale& scale, int64_t layers, int64_t experts);

/// Work of a forward pass: what its time is made of.
struct Work {
  double weight_bytes = 0;     ///< that are read
  double product_flops = 0;    ///< of all but attention
  double attention_flops = 0;  ///< of queries against the cache
};

/// Reading `tokens` tokens in chunks, without the head.
Work prefill_work(const ModelConfig& config, int64_t chunk, int64_t tokens);

/// One more token of each of `batch` sequences behind `tokens` tokens, without the head.
Work decode_work(const ModelConfig& config, int64_t batch, int64_t tokens);

/// Bytes of one sequence's states and caches after `tokens` tokens, in bfloat16 and float32 as the model holds them.
double sequence_bytes(const ModelConfig& config, int64_t tokens);

struct Measured {
  std::string stack, phase;  ///< phase: prefill or decode
  int64_t tokens, batch;
  double seconds;
  Work work;
};

/// Rates at which work is done, fitted to times: seconds = weight_bytes / a + product_flops / b + attention_flops / c,
/// with the smallest sum of squared relative errors and no negative rate. A rate of 0: that work costs nothing.
struct Rates {
  double bytes = 0, products = 0, attention = 0;  ///< per second
  double worst_error = 0;                         ///< largest relative error among what was fitted
  double seconds(const Work& work) const;
};
///
/// Not all of them can be told apart: reading a prompt is bound by arithmetic, and the weights that its chunks read
/// grow with it just as the products do; a single sequence's token is bound by reading, and its products are always as
/// many.
enum class FitTerms { products_attention, bytes_attention, all };
Rates fit_rates(const std::vector<Measured>& measured, FitTerms terms);

/// Times a stack of random weights in bfloat16: prefill at doubling lengths, decoding at doubling lengths over caches
/// of one number (the time does not depend on it), alone and as the largest batch whose states and caches take no
/// more than `cache_budget` bytes. Stops early when `seconds_left` runs out.
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
