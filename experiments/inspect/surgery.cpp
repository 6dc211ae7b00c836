// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/surgery.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/text.h"
#include "core/inspect/recurrence_view.h"
#include "core/inspect/surgery.h"
#include "experiments/inspect/associations.h"
#include "experiments/inspect/opened_run.h"
#include "experiments/study/statistics.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kMostCounts = 16;        // numbers of associations at which the state is edited
constexpr int64_t kRoleExamples = 64;      // examples that show which tokens are keys and values, at least
constexpr int64_t kAttentionExamples = 4;  // examples that choose the layer

// --- Examples and mixers ---------------------------------------------------------------------------------------

// An example with its associations.
struct RecallExample {
  Example tokens;
  Associations associations;
};

// The examples with at least two associations.
std::vector<RecallExample> recall_examples(const OpenedRun& run, const InspectOptions& options) {
  const auto task = run.task.make();
  const Split split = split_named(options.split);
  const int64_t wanted = std::max(options.examples, kRoleExamples), count = task->examples(split).value_or(wanted);
  std::vector<Example> drawn;
  for (int64_t i = 0; i < std::min(wanted, count); ++i) {
    stop_when_asked();
    drawn.push_back(task->example(seed_of_examples(options, run.config), split, i));
  }
  std::vector<Associations> found = associations_of(drawn, run.task.name);
  std::vector<RecallExample> examples;
  const size_t kept = std::min(drawn.size(), static_cast<size_t>(options.examples));
  for (size_t i = 0; i < kept; ++i) {
    if (found[i].keys() >= 2) examples.push_back({std::move(drawn[i]), std::move(found[i])});
  }
  if (examples.empty()) {
    refuse(
        "task.name = {}: none of {} examples has two associations; take more examples (--examples) or more pairs per "
        "sequence (task.mqar.pairs, task.needle.needles)",
        run.task.name, kept);
  }
  return examples;
}

// Tokens [first, end) of an example as a row.
Tensor row_of_tokens(const Example& example, int64_t first, int64_t end, const torch::Device& device) {
  const std::vector<int64_t> ids(example.inputs.begin() + first, example.inputs.begin() + end);
  return torch::tensor(ids, torch::kLong).unsqueeze(0).to(device);
}

Tensor whole_row(const Example& example, const torch::Device& device) {
  return row_of_tokens(example, 0, example.size(), device);
}

// The mixers whose state is one matrix per head, with one write per token.
std::vector<Watched> editable_mixers(OpenedRun& run, const Example& example) {
  std::vector<Watched> all = mixers_of(run), editable;
  {
    const Watch watch(all, [](MixerView& view) {
      MixerProbe probe;
      probe.recurrence = [&view](const kernels::RecurrenceInputs& in, const Tensor&) { view.linear = in.writes == 1; };
      return probe;
    });
    run.model->hidden(whole_row(example, run.model->device()));
  }
  for (const Watched& watched : all) {
    const bool has_memory = watched.mixer->initial_state(1, torch::kMeta).tensors.count("memory") > 0;
    if (watched.view.linear && has_memory) editable.push_back(watched);
  }
  return editable;
}

std::string titles_of(const std::vector<Watched>& mixers) {
  std::vector<std::string> titles;
  for (const Watched& watched : mixers) titles.push_back(watched.view.title());
  return join(titles, "; ");
}

// The editable mixers of a layer, of all layers if it is -1.
std::vector<Watched> mixers_to_choose_from(OpenedRun& run, const Example& example, const SurgeryOptions& options) {
  const std::vector<Watched> editable = editable_mixers(run, example);
  if (editable.empty()) {
    refuse(
        "'{}' has no layer whose state can be edited, only {}; a run with one matrix per head and one write per token "
        "has, for example --model.pattern kda, gdn, mamba2 or deltanet",
        options.run.run, titles_of(mixers_of(run)));
  }
  if (options.layer < 0) return editable;
  std::vector<Watched> chosen;
  for (const Watched& watched : editable) {
    if (watched.view.layer == options.layer) chosen.push_back(watched);
  }
  if (chosen.empty()) {
    refuse("--layer {}: its state cannot be edited in '{}'; those that can: {}", options.layer, options.run.run,
           titles_of(editable));
  }
  return chosen;
}

// Shares of the questions' rows that fall on the values they ask for: [HV, questions].
Tensor attention_to_values(const kernels::RecurrenceInputs& in, const std::vector<RecallQuestion>& questions) {
  std::vector<int64_t> asking, asked;
  for (const RecallQuestion& question : questions) {
    asking.push_back(question.position);
    asked.push_back(question.value_position);
  }
  const auto index = [&](const std::vector<int64_t>& at) { return torch::tensor(at, torch::kLong).to(in.v.device()); };
  const Tensor rows = implicit_attention(in)[0].abs().index_select(1, index(asking));  // [HV, questions, T]
  const Tensor at = index(asked).view({1, -1, 1}).expand({rows.size(0), -1, 1});
  return (rows.gather(2, at).squeeze(2) / rows.sum(2).clamp_min(1e-30)).to(torch::kCPU, torch::kDouble);
}

// Surgery::attention of each mixer.
std::vector<double> attentions_of(OpenedRun& run, std::vector<Watched>& mixers,
                                  const std::vector<RecallExample>& examples) {
  std::map<std::pair<int64_t, int64_t>, std::vector<Tensor>> shares;  // by layer and part
  const auto count = std::min<size_t>(examples.size(), kAttentionExamples);
  for (size_t i = 0; i < count; ++i) {
    const Watch watch(mixers, [&](MixerView& view) {
      MixerProbe probe;
      probe.recurrence = [&, i](const kernels::RecurrenceInputs& in, const Tensor&) {
        stop_when_asked();
        shares[{view.layer, view.part}].push_back(attention_to_values(in, examples[i].associations.questions));
      };
      return probe;
    });
    run.model->hidden(whole_row(examples[i].tokens, run.model->device()));
  }
  std::vector<double> attentions;
  for (const Watched& watched : mixers) {
    const Tensor of_heads = torch::cat(shares.at({watched.view.layer, watched.view.part}), 1).mean(1);
    attentions.push_back(of_heads.max().item<double>());
  }
  return attentions;
}

// --- One example -----------------------------------------------------------------------------------------------

// What a mixer writes at every token of an example.
struct WrittenRows {
  Tensor keys, values;  // [T, HV, K] and [T, HV, V], float64 on the CPU
};

WrittenRows written_rows(Decoder& model, const Watched& mixer, const Example& example) {
  WrittenRows rows;
  std::vector<Watched> one{mixer};
  const Watch watch(one, [&](MixerView&) {
    MixerProbe probe;
    probe.recurrence = [&](const kernels::RecurrenceInputs& raw, const Tensor&) {
      const kernels::RecurrenceInputs in = kernels::activated(raw);
      const auto of_example = [](const Tensor& x) { return x[0].to(torch::kCPU, torch::kDouble); };
      rows.keys = of_example(in.k).repeat_interleave(in.v.size(2) / in.k.size(2), 1);
      rows.values = of_example(in.v);
    };
    return probe;
  });
  model->hidden(whole_row(example, model->device()));
  return rows;
}

// The memory of a mixer in a state of the model, [sequences, HV, K, V].
Tensor& memory_in(State& state, const MixerView& mixer) {
  State& layer = state.parts.at(static_cast<size_t>(mixer.layer));
  return (mixer.part < 0 ? layer : layer.parts.at(static_cast<size_t>(mixer.part))).tensors.at("memory");
}

// The associations in a state, the one that is edited, and the one whose value overwrites it.
struct EditedPairs {
  std::vector<Association> held;
  size_t edited;
  Association other;

  int64_t count() const { return static_cast<int64_t>(held.size()); }
  int64_t tokens() const {  // read before the edit
    const auto later = [](const Association& a, const Association& b) { return a.position < b.position; };
    return std::max_element(held.begin(), held.end(), later)->position + 1;
  }
  // The edited one and `most` - 1 others, evenly spaced; indices into held.
  std::vector<size_t> asked(int64_t most) const {
    std::vector<size_t> all{edited};
    for (const int64_t step : numbers_up_to(count() - 1, most - 1)) {
      all.push_back((edited + static_cast<size_t>(step)) % held.size());
    }
    return all;
  }
};

// The first `count` associations of an example and an edit that depends on the example's number; none if all values
// are the same token.
std::optional<EditedPairs> edited_pairs(const Associations& associations, int64_t count, size_t number) {
  EditedPairs pairs{associations.first(count), 0, {}};
  pairs.edited = number % pairs.held.size();
  const std::vector<Association> all = associations.first(associations.keys());
  for (size_t step = 1; step < all.size(); ++step) {
    pairs.other = all[(pairs.edited + step) % all.size()];
    if (pairs.other.value != pairs.held[pairs.edited].value) return pairs;
  }
  return std::nullopt;
}

// The state of the mixer and what was written into it.
struct HeldMemory {
  Tensor S;             // [HV, K, V]
  Tensor keys, values;  // [HV, N, K], [HV, N, V]: of the pairs, in their order
  int64_t edited;

  Tensor key() const { return keys.select(1, edited); }
  Tensor value() const { return values.select(1, edited); }
  // The rows of all other pairs, [HV, N - 1, ..] of [HV, N, ..].
  Tensor others(const Tensor& rows) const {
    const int64_t after = rows.size(1) - edited - 1;
    return torch::cat({rows.narrow(1, 0, edited), rows.narrow(1, edited + 1, after)}, 1);
  }
};

HeldMemory held_memory(const Tensor& memory, const WrittenRows& rows, const EditedPairs& pairs) {
  std::vector<int64_t> at;
  for (const Association& pair : pairs.held) at.push_back(pair.position);
  const auto of_pairs = [&](const Tensor& x) { return x.index_select(0, torch::tensor(at)).transpose(0, 1); };
  return {memory[0].to(torch::kCPU, torch::kDouble), of_pairs(rows.keys), of_pairs(rows.values),
          static_cast<int64_t>(pairs.edited)};
}

// The measurements of one example, as in SurgeryPoint.
struct EditResult {
  double success = 0, error = 0;
  std::optional<double> damage, overlap, right, changed, kept;
};

double number_in(const Tensor& x) { return x.item<double>(); }

// relative_change() over all heads.
double change_of(const Tensor& before, const Tensor& after) {
  return number_in(relative_change(before.reshape({-1, before.size(-1)}), after.reshape({-1, after.size(-1)})));
}

double cosine_of(const Tensor& x, const Tensor& y) {
  return number_in(torch::cosine_similarity(x, y, -1, 1e-30).mean());
}

// The values under the keys of the pairs in S against those in `after`, an edited S that should hold `wanted` [HV, V].
EditResult compare_values(const HeldMemory& memory, const Tensor& after, StateEdit edit, const Tensor& wanted) {
  const Tensor before = values_under(memory.S, memory.keys), now = values_under(after, memory.keys);  // [HV, N, V]
  const Tensor value = now.select(1, memory.edited);
  EditResult result;
  if (edit == StateEdit::erase) {
    const Tensor old = before.select(1, memory.edited);
    result.error = change_of(old, old + value);
    result.success = 1 - result.error;
  } else {
    result.error = change_of(wanted, value);
    result.success = cosine_of(value, wanted);
  }
  if (memory.keys.size(1) < 2) return result;
  result.overlap = number_in(key_overlap(memory.key(), memory.others(memory.keys)).mean());
  if (edit != StateEdit::read) result.damage = change_of(memory.others(before), memory.others(now));
  return result;
}

// The most probable token after the separator and each of the asked keys, continued from each of the states:
// [states, asked] int64 on the CPU.
Tensor answers_after(Decoder& model, const std::vector<State>& states, const std::vector<int64_t>& separator,
                     const EditedPairs& pairs, const std::vector<size_t>& asked) {
  std::vector<Tensor> rows;
  for (const size_t i : asked) {
    std::vector<int64_t> tokens = separator;
    tokens.insert(tokens.end(), pairs.held[i].key.begin(), pairs.held[i].key.end());
    rows.push_back(torch::tensor(tokens, torch::kLong));
  }
  const auto count = static_cast<int64_t>(states.size()), keys = static_cast<int64_t>(asked.size());
  State state = State::join(states);
  state.reorder(torch::arange(count).repeat_interleave(keys));
  const Tensor tokens = torch::stack(rows).repeat({count, 1}).to(model->device());
  const Tensor hidden = model->hidden(tokens, {}, &state).select(1, -1);
  return model->head(hidden).argmax(-1).view({count, keys}).cpu();
}

// Adds what the answers [states, asked] to the keys say; the edited key is the first one. `edits` are those of the
// states.
void compare_answers(std::vector<EditResult>& results, const std::vector<StateEdit>& edits, const Tensor& answers,
                     const EditedPairs& pairs, const std::vector<size_t>& asked) {
  std::vector<int64_t> values;
  for (const size_t i : asked) values.push_back(pairs.held[i].value);
  const auto share = [](const Tensor& x) { return number_in(x.to(torch::kDouble).mean()); };
  const auto others = static_cast<int64_t>(asked.size()) - 1;
  for (size_t i = 0; i < edits.size(); ++i) {
    const Tensor before = answers[0], now = answers[static_cast<int64_t>(i)];
    const auto answer = now[0].item<int64_t>();
    if (edits[i] == StateEdit::read) {
      results[i].right = share(now.eq(torch::tensor(values, torch::kLong)));
      continue;
    }
    const bool changed =
        edits[i] == StateEdit::overwrite ? answer == pairs.other.value : answer != before[0].item<int64_t>();
    results[i].changed = changed ? 1 : 0;
    if (others > 0) results[i].kept = share(now.narrow(0, 1, others).eq(before.narrow(0, 1, others)));
  }
}

using EditResults = std::map<std::pair<int64_t, StateEdit>, std::vector<EditResult>>;  // by number of pairs

// Edits the state of `mixer` in `state`, which has read the pairs.
void edit_state(EditResults& results, Decoder& model, const MixerView& mixer, State& state, const WrittenRows& rows,
                const EditedPairs& pairs, const std::vector<int64_t>& separator) {
  const std::vector<StateEdit> edits{StateEdit::read, StateEdit::overwrite, StateEdit::erase};
  const HeldMemory memory = held_memory(memory_in(state, mixer), rows, pairs);
  const Tensor other = rows.values[pairs.other.position];  // [HV, V]
  std::vector<State> states;
  std::vector<EditResult> found;
  for (const StateEdit edit : edits) {
    Tensor edited = memory.S;
    if (edit == StateEdit::overwrite) edited = overwritten_state(memory.S, memory.key(), other);
    if (edit == StateEdit::erase) edited = erased_state(memory.S, memory.key());
    State& copy = states.emplace_back(state.clone());
    Tensor& held = memory_in(copy, mixer);
    held = edited.to(held.options()).unsqueeze(0);  // in the dtype in which the model computes
    const Tensor& wanted = edit == StateEdit::overwrite ? other : memory.value();
    found.push_back(compare_values(memory, held[0].to(torch::kCPU, torch::kDouble), edit, wanted));
  }
  const std::vector<size_t> asked = pairs.asked(kAskedKeys);
  compare_answers(found, edits, answers_after(model, states, separator, pairs, asked), pairs, asked);
  for (size_t i = 0; i < edits.size(); ++i) results[{pairs.count(), edits[i]}].push_back(found[i]);
}

// Edits one association of an example at each number of pairs.
void edit_example(EditResults& results, Decoder& model, const Watched& mixer, const RecallExample& example,
                  const std::vector<int64_t>& counts, size_t number) {
  const WrittenRows rows = written_rows(model, mixer, example.tokens);
  State state = model->initial_state(1, model->device());
  int64_t read = 0;
  for (const int64_t count : counts) {
    stop_when_asked();
    if (count > example.associations.keys()) return;
    const std::optional<EditedPairs> pairs = edited_pairs(example.associations, count, number);
    if (!pairs) return;
    model->hidden(row_of_tokens(example.tokens, read, pairs->tokens(), model->device()), {}, &state);
    read = pairs->tokens();
    edit_state(results, model, mixer.view, state, rows, *pairs, example.associations.separator);
  }
}

// --- All examples ----------------------------------------------------------------------------------------------

// The mean of the results that have a value.
template <class Value>
SampleMean mean_over(const std::vector<EditResult>& results, Value EditResult::*value) {
  std::vector<double> values;
  for (const EditResult& result : results) {
    const std::optional<double> one = result.*value;
    if (one) values.push_back(*one);
  }
  SampleMean mean;
  if (values.empty()) return mean;
  mean.mean = mean_of(values);
  if (values.size() > 1) mean.error = std::sqrt(variance_of(values) / static_cast<double>(values.size()));
  return mean;
}

std::vector<SurgeryPoint> points_of(const EditResults& results) {
  std::vector<SurgeryPoint> points;
  for (const auto& [key, found] : results) {
    points.push_back({key.first, key.second, static_cast<int64_t>(found.size()), mean_over(found, &EditResult::success),
                      mean_over(found, &EditResult::error), mean_over(found, &EditResult::damage),
                      mean_over(found, &EditResult::overlap), mean_over(found, &EditResult::right),
                      mean_over(found, &EditResult::changed), mean_over(found, &EditResult::kept)});
  }
  return points;
}

std::vector<SurgeryPoint> edit_examples(Decoder& model, const Watched& mixer,
                                        const std::vector<RecallExample>& examples, bool quiet) {
  int64_t most = 0;
  for (const RecallExample& example : examples) most = std::max(most, example.associations.keys());
  const std::vector<int64_t> counts = numbers_up_to(most, kMostCounts);
  Progress progress("surgery", static_cast<int64_t>(examples.size()), 0, quiet);
  EditResults results;
  for (size_t i = 0; i < examples.size(); ++i) {
    edit_example(results, model, mixer, examples[i], counts, i);
    progress.update(static_cast<int64_t>(i) + 1, mixer.view.title());
  }
  return points_of(results);
}

}  // namespace

std::string to_string(StateEdit edit) {
  switch (edit) {
    case StateEdit::read: return "read";
    case StateEdit::overwrite: return "overwrite";
    case StateEdit::erase: return "erase";
  }
  return "";
}

Surgery edit_states(const SurgeryOptions& options) {
  const torch::NoGradGuard no_grad;
  OpenedRun run = open_run(options.run);
  const std::vector<RecallExample> examples = recall_examples(run, options.run);
  std::vector<Watched> mixers = mixers_to_choose_from(run, examples.front().tokens, options);
  const std::vector<double> attentions = attentions_of(run, mixers, examples);
  const auto best = std::max_element(attentions.begin(), attentions.end());
  const Watched& chosen = mixers[static_cast<size_t>(best - attentions.begin())];
  State state = run.model->initial_state(1, torch::kMeta);
  const Tensor& memory = memory_in(state, chosen.view);
  Surgery surgery{options.run,    run.task,       run.step, chosen.view, memory.size(1),
                  memory.size(2), memory.size(3), *best,    {}};
  surgery.points = edit_examples(run.model, chosen, examples, options.quiet);
  if (surgery.points.empty()) {
    refuse("task.name = {}: no example has two associations with different values; choose a larger task.vocab",
           run.task.name);
  }
  return surgery;
}

}  // namespace klab
