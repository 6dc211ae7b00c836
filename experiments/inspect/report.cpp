// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/report.h"

#include <torch/nn/module.h>

#include <cmath>
#include <map>

#include "core/base/text.h"
#include "experiments/inspect/html.h"
#include "experiments/inspect/pictures.h"

namespace klab {
namespace {

using torch::Tensor;

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string number_of_tokens(double count) {
  if (std::isinf(count)) return "never fades";
  return count >= 1e5 ? fmt::format("{:.1e}", count) : fmt::format("{:.3g}", count);
}

std::string figure(const DrawnPicture& drawn, const std::string& folder) {
  return html_figure(folder + "/" + drawn.file, drawn.alt, drawn.title + " (" + drawn.file + ")", drawn.wide);
}

// A setting and, if it differs, the trained value: "length 64 (trained: 32)".
std::string with_trained(const std::string& name, const std::string& now, const std::string& trained) {
  return now == trained ? fmt::format("{} {}", name, now) : fmt::format("{} {} (trained: {})", name, now, trained);
}

std::string input_text(const Inspection& found) {
  const TaskConfig &now = found.task, &trained = found.config.task;
  return join({with_trained("task", now.name, trained.name),
               with_trained("length", fmt::format("{}", now.length), fmt::format("{}", trained.length)),
               with_trained("vocab", fmt::format("{}", now.vocab), fmt::format("{}", trained.vocab))}) +
         "; examples of the " + found.options.split + " split" +
         (found.options.seed ? fmt::format(", seed {}", *found.options.seed) : "");
}

std::string header(const Inspection& found, const std::vector<std::string>& provenance) {
  const ModelConfig& model = found.config.model;
  const Score& score = found.accuracy.all;
  std::string out = fmt::format("<h1>Inside {}</h1>\n", html_text(found.options.run));
  std::vector<std::vector<std::string>> rows = {
      {"layers", join(model.layer_mixers())},
      {"model", fmt::format("width {}, {} heads of {}, {} parameters", model.width, model.heads, model.head_dim,
                            short_count(static_cast<double>(found.parameters)))},
      {"trained",
       fmt::format("{} steps of {} sequences, learning rate {}, seed {}; the {} checkpoint", found.step,
                   found.config.train.batch, found.config.train.lr, found.config.train.seed, found.options.checkpoint)},
      {"input", input_text(found)},
      {"accuracy",
       fmt::format("{} of {} targets right, {} of {} sequences fully right; loss {:.4f}", percent(score.acc_tok()),
                   score.targets, percent(score.acc_seq()), score.sequences, score.loss())}};
  if (!found.not_shown.empty())
    rows.push_back({"not shown", join(found.not_shown) + ": their state is not one matrix of the recurrence per head"});
  const auto made_by = html_rows_of_lines(provenance);
  rows.insert(rows.end(), made_by.begin(), made_by.end());
  out += html_table({"run", found.options.run}, rows);
  out +=
      "<p>A token mixer is the part of a layer that moves information between tokens. This page shows for every mixer "
      "the half-lives of its state, the tokens that it attends to and the effective rank of its state, and the "
      "accuracy of the model by difficulty.</p>\n";
  return out;
}

// --- Half-lives ------------------------------------------------------------------------------------------------

std::vector<std::vector<std::string>> half_life_rows(const Inspection& found) {
  std::vector<std::vector<std::string>> rows;
  for (const MixerView& view : found.mixers) {
    if (!view.linear) continue;
    const Tensor sorted = std::get<0>(view.decays.half_life.sort(1));
    const int64_t channels = sorted.size(1);
    for (int64_t head = 0; head < sorted.size(0); ++head) {
      const auto at = [&](int64_t channel) { return number_of_tokens(sorted[head][channel].item<double>()); };
      const auto resets = view.decays.resets[head].mean().item<double>();
      rows.push_back({view.title(), fmt::format("{}", head), channels > 1 ? fmt::format("{}", channels) : "one for all",
                      at(0), at(channels / 2), at(channels - 1), resets > 0 ? percent(resets) : "none"});
    }
  }
  return rows;
}

std::string half_life_section(const Inspection& found, const std::string& folder) {
  std::string out = "<h2>How long does the state last?</h2>\n";
  if (!found.any_linear()) return out + "<p>No layer that is shown has a recurrent state.</p>\n";
  out += html_how_to_read(
      {"A linear layer has one state matrix per head instead of a cache of all past tokens. Its gate decays the "
       "state at every token. The half-life is the number of tokens after which half of the state is left: ln 2 / "
       "&minus;g, with g the mean log-decay over tokens and examples. KDA and its relatives have a decay for every "
       "channel (row) of the matrix; Gated DeltaNet, Mamba2 and RetNet have one per head; some mixers have none.",
       "In the pictures each row is a head, with its channels sorted from short to long half-lives: yellow channels "
       "decay within a few tokens, violet ones slowly, black ones not at all. A head with both has a short and a "
       "long memory. A half-life far beyond the length of the input has the effect of no decay. Hard resets, which "
       "erase the state completely, are counted separately. What the delta rule erases when it writes to an existing "
       "key is not decay and not shown here."});
  out += "<div class=\"figures\">\n";
  for (const MixerView& view : found.mixers) {
    if (!view.linear) continue;
    const DrawnPicture drawn = draw_half_lives(view, folder);
    out += drawn.file.empty() ? fmt::format("<p>{}: nothing fades (no decay), the half-life is infinite.</p>\n",
                                            html_text(view.title()))
                              : figure(drawn, folder);
  }
  out += "</div>\n";
  return out + html_table({"mixer", "head", "channels", "shortest", "middle", "longest (tokens)", "hard resets"},
                          half_life_rows(found));
}

// --- Weights ---------------------------------------------------------------------------------------------------

std::string weights_section(const Inspection& found, const std::string& folder) {
  const auto all = static_cast<int64_t>(found.drawn.inputs.size());
  std::string out = "<h2>Which tokens does each token attend to?</h2>\n";
  out += html_how_to_read(
      {"Softmax attention gives every earlier token a weight; the weights of a row sum to 1. A linear layer does not "
       "compute such a matrix, but its output is also a weighted sum of the earlier tokens' values, o<sub>t</sub> = "
       "&Sigma; A<sub>ts</sub> v<sub>s</sub>, and the weights A (its implicit attention) depend only on its gates, "
       "keys and queries. So both kinds of layers can be compared.",
       "Each row is a query token, each column a key token; the grey triangle is the future. Blue weights are "
       "positive, orange ones negative (only in linear layers), white ones zero. Rows of linear layers are divided "
       "by the sum of their absolute weights, because the output is normalised after the mixer; the CSV files have "
       "the original weights. A bright spot in the row of a question, at the token that holds the answer, means that "
       "this head retrieves it. A diagonal copies the token itself, the diagonal next to it the previous token. "
       "Short convolutions, which many linear layers apply before the recurrence, mix a few adjacent tokens into a "
       "value, so the spot may be off by a token or two."});
  if (found.shown_tokens < all) {
    out += fmt::format("<p>Shown are the first {} of the example's {} tokens; --most-tokens shows more.</p>\n",
                       found.shown_tokens, all);
  }
  out += "<div class=\"figures\">\n";
  for (const MixerView& view : found.mixers) {
    for (const DrawnPicture& drawn : draw_weights(view, found, folder)) out += figure(drawn, folder);
  }
  out +=
      "</div>\n<p>Check of the matrices: weights times values must equal the output of the layer. Largest difference, "
      "relative to the largest output:</p>\n";
  std::vector<std::vector<std::string>> rows;
  for (const MixerView& view : found.mixers) {
    rows.push_back(
        {view.title(), view.linear ? "implicit attention" : "softmax", fmt::format("{:.1e}", view.unexplained)});
  }
  return out + html_table({"mixer", "weights", "difference"}, rows);
}

std::string example_section(const Inspection& found) {
  const DrawnExample& drawn = found.drawn;
  std::string out = "<h2>The example</h2>\n";
  const std::string which = found.options.tokens.empty()
                                ? fmt::format("Example {} of the {} split", found.options.index, found.options.split)
                                : "The given tokens, without targets";
  out += fmt::format("<p>{}, {} tokens:</p>\n<p><code>{}</code></p>\n", html_text(which), drawn.inputs.size(),
                     html_text(join(drawn.names, " ")));
  if (drawn.answers.empty()) return out;
  std::vector<std::vector<std::string>> rows;
  constexpr size_t kMostRows = 64;
  for (size_t i = 0; i < std::min(drawn.answers.size(), kMostRows); ++i) {
    const Prediction& answer = drawn.answers[i];
    const auto at = static_cast<size_t>(answer.position);
    rows.push_back({fmt::format("{}", answer.position), drawn.names[at], drawn.target_names[at],
                    drawn.predicted_names[i], answer.predicted == answer.label ? "right" : "wrong",
                    percent(answer.probability)});
  }
  out += html_table({"position", "token", "target", "prediction", "result", "probability of the target"}, rows);
  if (drawn.answers.size() > kMostRows) {
    out += fmt::format("<p>These are the first {} of {} targets; example.csv has all.</p>\n", kMostRows,
                       drawn.answers.size());
  }
  return out;
}

// --- States and accuracy ---------------------------------------------------------------------------------------

std::string rank_section(const Inspection& found, const std::string& folder) {
  if (!found.any_linear()) return "";
  std::string out = "<h2>How much does the state hold?</h2>\n";
  out += html_how_to_read(
      {"The state of a head is a matrix from keys to values. Its effective rank is the number of directions that it "
       "uses: exp of the entropy of its singular values, normalised to sum 1. One stored key-value pair gives rank "
       "1, n equally strong pairs with orthogonal keys give rank n; the maximum is the smaller dimension of the "
       "matrix.",
       "A curve that rises while pairs are written and then stays constant stores them separately. A curve that "
       "saturates early has reached its capacity or forgets as fast as it writes; one near 1 is dominated by a single "
       "direction."});
  out += "<div class=\"figures\">\n";
  for (const MixerView& view : found.mixers) {
    if (view.linear) out += figure(draw_ranks(view, found, folder), folder);
  }
  return out + "</div>\n";
}

std::string accuracy_section(const Inspection& found, const std::string& folder) {
  const Evaluation& of = found.accuracy;
  std::string out = "<h2>Where does the model fail?</h2>\n";
  out += html_how_to_read({fmt::format(
      "Every target has a difficulty, measured by the task; here: {}. Bars show the accuracy on the targets of each "
      "difficulty. If there are many difficulties, they are grouped by powers of two, labelled by the smallest.",
      html_text(of.measure))});
  const DrawnPicture drawn = draw_accuracy(of, folder);
  if (!drawn.file.empty()) out += figure(drawn, folder);
  for (const DrawnPicture& loss : draw_losses(of, folder)) out += figure(loss, folder);
  std::vector<std::vector<std::string>> rows;
  const auto row = [&](const std::string& difficulty, const Score& score) {
    rows.push_back(
        {difficulty, fmt::format("{}", score.targets), percent(score.acc_tok()), fmt::format("{:.4f}", score.loss())});
  };
  for (const auto& [difficulty, score] : of.slices) row(fmt::format("{}", difficulty), score);
  row("all", of.all);
  return out + html_table({of.measure, "targets", "right", "loss"}, rows);
}

// Greedy answers to the same prompts at the first and at the last evaluation.
std::string answers_section(const std::vector<LoggedAnswer>& all) {
  std::vector<const LoggedAnswer*> greedy;
  for (const LoggedAnswer& one : all) {
    if (one.split == "validation") greedy.push_back(&one);
  }
  if (greedy.empty()) return "";
  const int64_t first = greedy.front()->step, last = greedy.back()->step;
  std::map<std::string, const LoggedAnswer*> before;
  for (const LoggedAnswer* one : greedy) {
    if (one->step == first) before[one->prompt] = one;
  }
  std::vector<std::vector<std::string>> rows;
  for (const LoggedAnswer* one : greedy) {
    if (one->step != last) continue;
    const LoggedAnswer* earlier = before[one->prompt];
    rows.push_back({one->prompt, one->reference, earlier == nullptr ? "" : earlier->answer, one->answer,
                    fmt::format("{:.3g}", one->reward)});
  }
  return fmt::format(
             "<h2>What does it answer?</h2>\n<p>Greedy answers to validation prompts after iterations {} and {}, and "
             "the reward of the latter. answers.csv has those of all evaluations, and sampled ones.</p>\n",
             first, last) +
         html_table(
             {"prompt", "reference", fmt::format("answer, {}", first), fmt::format("answer, {}", last), "reward"},
             rows);
}

std::string files_section(const std::vector<NamedTable>& tables) {
  std::string out = "<h2>Files</h2>\n<p>The same folder contains the pictures and their data as CSV:</p>\n<ul>\n";
  for (const NamedTable& table : tables) out += fmt::format("<li><code>{}</code></li>\n", html_text(table.file));
  return out + "</ul>\n";
}

}  // namespace

std::string inspection_report(const Inspection& found, const std::vector<NamedTable>& tables,
                              const std::vector<std::string>& provenance, const std::string& folder) {
  return html_page("Inside " + found.options.run, header(found, provenance) + answers_section(found.answers) +
                                                      example_section(found) + weights_section(found, folder) +
                                                      half_life_section(found, folder) + rank_section(found, folder) +
                                                      accuracy_section(found, folder) + files_section(tables));
}

}  // namespace klab
