// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/inspection.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <deque>

#include "core/base/error.h"
#include "core/inspect/recurrence_view.h"
#include "experiments/inspect/opened_run.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kRankTokens = 48;   // positions of a sequence at which the rank of the state is computed
constexpr int64_t kRankExamples = 8;  // sequences for the rank curves

Split split_of(const Inspection& found) { return split_named(found.options.split); }

int64_t seed_of(const Inspection& found) { return seed_of_examples(found.options, found.config); }

// Largest difference between weights [1, H, W, W writes] times values [1, W writes, H, V] and the outputs [1, W, H, V],
// relative to the largest output.
double unexplained(const Tensor& weights, const Tensor& v, const Tensor& o) {
  const Tensor wide = o.to(weights.scalar_type());
  const Tensor product = weights.matmul(v.to(weights.scalar_type()).transpose(1, 2)).transpose(1, 2);
  const double largest = wide.abs().max().item<double>();
  return (product - wide).abs().max().item<double>() / std::max(largest, 1e-30);
}

void keep(MixerView& view, const Tensor& weights, const Tensor& v, const Tensor& o) {
  stop_when_asked();
  view.unexplained = unexplained(weights, v, o);
  view.weights = weights.squeeze(0).unflatten(2, {o.size(1), -1}).sum(3).cpu();  // over the writes of each token
}

// Records the weights of the first `tokens` tokens. Later tokens do not affect them.
MixerProbe weights_probe(MixerView& view, int64_t tokens) {
  MixerProbe probe;
  probe.recurrence = [&view, tokens](const kernels::RecurrenceInputs& in, const Tensor& o) {
    view.linear = true;
    const kernels::RecurrenceInputs first = kernels::tokens_of(in, 0, tokens);
    keep(view, implicit_attention(first), first.v, o.narrow(1, 0, tokens));
  };
  probe.attention = [&view, tokens](const kernels::AttentionInputs& in, const Tensor& o) {
    const auto first = [&](const Tensor& x) { return x.defined() ? x.narrow(1, 0, tokens) : x; };
    const kernels::AttentionInputs shown{first(in.q), first(in.k), first(in.v), first(in.g), in.scale, in.window};
    const Tensor v = shown.v.repeat_interleave(o.size(2) / shown.v.size(2), 2);
    keep(view, kernels::attention_weights(shown), v, first(o));
  };
  return probe;
}

Tensor as_row(const std::vector<int64_t>& ids, const torch::Device& device) {
  return torch::tensor(ids, torch::kLong).unsqueeze(0).to(device);
}

// An example of given tokens, without targets.
Example given_tokens(const std::vector<int64_t>& tokens, int64_t vocabulary) {
  Example given;
  for (const int64_t id : tokens) {
    if (id < 0 || id >= vocabulary)
      refuse("--tokens: {} is not in the vocabulary of the model, 0..{}", id, vocabulary - 1);
    given.append(id);
  }
  if (given.size() < 2) refuse("--tokens: less than two tokens cannot be analysed; write 5,17,3");
  return given;
}

// The model's vocabulary may be larger than the task's.
std::string name_of(const Task& task, int64_t id) {
  return id < task.vocabulary() ? task.token_name(id) : fmt::format("#{}", id);
}

DrawnExample named(const Example& example, const Task& task) {
  DrawnExample drawn{example.inputs, example.labels, {}, {}, {}, {}};
  for (const int64_t id : drawn.inputs) drawn.names.push_back(name_of(task, id));
  for (const int64_t id : drawn.labels) drawn.target_names.push_back(id < 0 ? "" : name_of(task, id));
  return drawn;
}

// Adds the model's predictions at the supervised positions; `logits` [T, vocabulary].
void answer(DrawnExample& drawn, const Tensor& logits, const Task& task) {
  const Tensor shares = logits.to(torch::kCPU, torch::kDouble).softmax(-1);
  for (int64_t t = 0; t < shares.size(0); ++t) {
    const int64_t label = drawn.labels[static_cast<size_t>(t)];
    if (label < 0) continue;
    const auto predicted = shares[t].argmax().item<int64_t>();
    drawn.answers.push_back({t, label, predicted, shares[t][label].item<double>()});
    drawn.predicted_names.push_back(name_of(task, predicted));
  }
}

void look_at_example(Inspection& found, std::vector<Watched>& mixers, Decoder& model) {
  const auto task = found.task.make();
  const Example drawn = found.options.tokens.empty()
                            ? task->example(seed_of(found), split_of(found), found.options.index)
                            : given_tokens(found.options.tokens, model->vocabulary());
  found.drawn = named(drawn, *task);
  found.shown_tokens = std::min(found.options.most_tokens, drawn.size());
  const Watch watch(mixers, [&](MixerView& view) { return weights_probe(view, found.shown_tokens); });
  const Tensor hidden = model->hidden(as_row(drawn.inputs, model->device()));
  answer(found.drawn, model->head(hidden.squeeze(0)), *task);
}

MixerProbe rank_probe(MixerView& view, const std::vector<int64_t>& tokens) {
  MixerProbe probe;
  probe.recurrence = [&view, &tokens](const kernels::RecurrenceInputs& in, const Tensor&) {
    stop_when_asked();
    view.ranks = effective_rank(states_after(in, tokens)).permute({1, 2, 0});  // from [P, E, HV]
  };
  return probe;
}

void look_at_states(Inspection& found, std::vector<Watched>& mixers, Decoder& model) {
  const int64_t count = std::min(found.options.examples, kRankExamples);
  const Batch batch = batch_source(found.task, seed_of(found), count, split_of(found))(0);
  found.rank_tokens = numbers_up_to(batch.inputs.size(1), kRankTokens);
  const Watch watch(mixers, [&](MixerView& view) { return rank_probe(view, found.rank_tokens); });
  model->hidden(batch.inputs.to(model->device()));
}

// Half-lives and accuracy over many examples.
void look_at_many(Inspection& found, std::vector<Watched>& mixers, Decoder& model) {
  RunConfig config = found.config;
  config.train.seed = seed_of(found);
  config.test.examples = found.options.examples;
  config.train.batch = std::min(config.train.batch, found.options.examples);
  std::deque<DecayMeter> meters;
  {
    const Watch watch(mixers, [&](MixerView&) {
      MixerProbe probe;
      probe.recurrence = [&meter = meters.emplace_back()](const kernels::RecurrenceInputs& in, const Tensor&) {
        meter.add(in);
      };
      return probe;
    });
    found.accuracy = evaluate_variant({"", found.task}, config, model, model->device(), split_of(found));
  }
  for (size_t i = 0; i < mixers.size(); ++i) {
    if (mixers[i].view.linear) mixers[i].view.decays = meters[i].decays();
  }
}

}  // namespace

std::string MixerView::title() const {
  return part < 0 ? fmt::format("layer {}: {}", layer, mixer)
                  : fmt::format("layer {}, heads of kind {}: {}", layer, part, mixer);
}

std::string MixerView::stem() const {
  return part < 0 ? fmt::format("layer{}_{}", layer, mixer) : fmt::format("layer{}_{}_{}", layer, part, mixer);
}

bool Inspection::any_linear() const {
  return std::any_of(mixers.begin(), mixers.end(), [](const MixerView& view) { return view.linear; });
}

Inspection inspect(const InspectOptions& options) {
  const torch::NoGradGuard no_grad;
  OpenedRun run = open_run(options);
  Decoder& model = run.model;
  Inspection found;
  found.options = options;
  found.config = run.config;
  found.task = run.task;
  found.step = run.step;
  for (const auto& parameter : model->parameters()) found.parameters += parameter.numel();
  std::vector<Watched> mixers = mixers_of(run);
  look_at_example(found, mixers, model);
  look_at_states(found, mixers, model);
  look_at_many(found, mixers, model);
  for (Watched& watched : mixers) {
    if (watched.view.weights.defined()) {
      found.mixers.push_back(std::move(watched.view));
    } else {
      found.not_shown.push_back(watched.view.title());
    }
  }
  if (found.config.rl) found.answers = read_answers(RunFolder{options.run}.answers());
  return found;
}

}  // namespace klab
