// SPDX-License-Identifier: Apache-2.0
// klab logits: computes the logits of a public checkpoint at every position.
#include <fmt/format.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "experiments/command/public_model.h"
#include "experiments/command/token_input.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kHeadRows = 256;  // positions whose logits are in memory at a time

struct LogitsOptions {
  PublicModelOptions model;
  TokenInput tokens;
};

Tensor tokens_of(const TokenInput& input) {  // [B, T] int64
  std::vector<Tensor> all;
  for (const std::vector<int64_t>& row : read_tokens(input)) {
    all.push_back(torch::tensor(row, torch::kLong));
    if (all.back().numel() != all.front().numel()) {
      refuse("{}: prompts of {} and of {} tokens; they must have equal lengths to form one tensor of logits",
             input.name(), all.front().numel(), all.back().numel());
    }
  }
  return torch::stack(all);
}

void check_vocabulary(const Tensor& tokens, int64_t vocabulary) {
  const auto wrong = torch::logical_or(tokens < 0, tokens >= vocabulary).nonzero();
  if (wrong.size(0) > 0) {
    const int64_t b = wrong[0][0].item<int64_t>(), t = wrong[0][1].item<int64_t>();
    refuse("token {} (sequence {}, position {}) is not in the vocabulary of the model, 0..{}",
           tokens[b][t].item<int64_t>(), b, t, vocabulary - 1);
  }
}

// Processes as many sequences at a time as fit in a chunk, or one sequence in several chunks, and writes logits
// immediately.
int logits(const LogitsOptions& options, const Globals& globals) {
  const c10::InferenceMode inference;
  if (globals.out.empty()) refuse("--out is missing: the safetensors file for the logits");
  const Tensor tokens = tokens_of(options.tokens);
  PublicModel loaded = open_public_model(options.model, globals);
  Decoder& model = loaded.model;
  check_vocabulary(tokens, model->vocabulary());
  const int64_t B = tokens.size(0), T = tokens.size(1), rows = std::max<int64_t>(1, options.model.chunk / T);
  SafetensorsWriter file(globals.out, {{"logits", torch::kFloat, {B, T, model->vocabulary()}}},
                         {{"command", globals.command_line}});
  Progress progress("logits", B * T, 0, globals.quiet);
  int64_t done = 0;
  for (int64_t row = 0; row < B; row += rows) {
    const Tensor batch = tokens.narrow(0, row, std::min(rows, B - row));
    State state = model->initial_state(batch.size(0), model->device());
    for (int64_t start = 0; start < T; start += options.model.chunk) {
      if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted; nothing was written");
      const Tensor part = batch.narrow(1, start, std::min(options.model.chunk, T - start)).to(model->device());
      const Tensor hidden = model->hidden(part, {}, &state).flatten(0, 1);
      for (int64_t at = 0; at < hidden.size(0); at += kHeadRows) {
        const Tensor some = hidden.narrow(0, at, std::min(kHeadRows, hidden.size(0) - at));
        file.write("logits", model->head(some).to(torch::kFloat));
      }
      progress.update(done += part.numel(), "");
    }
  }
  file.commit();
  return 0;
}

}  // namespace

Command logits_command() {
  return {"logits", "logits of a public checkpoint at every position",
          "./klab logits --model Kimi-Linear-48B-A3B-Base --tokens 5,17,3 --out logits.safetensors",
          takes::threads | takes::device | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<LogitsOptions>();
            add_public_model_options(app, options->model);
            add_token_options(app, options->tokens);
            return [options, &globals] { return logits(*options, globals); };
          }};
}

}  // namespace klab
