// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/opened_run.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/model/headwise.h"
#include "core/model/pattern.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

std::string checkpoint_path(const InspectOptions& options) {
  const RunFolder folder{options.run};
  const std::string path = options.checkpoint == "best" ? folder.best() : folder.last();
  if (!std::filesystem::exists(path)) {
    refuse(
        "'{}' has no checkpoint yet: there is no {}; a run writes it every train.checkpoint_every steps and at its end "
        "(klab resume {})",
        options.run, path, options.run);
  }
  return path;
}

// The run's task with the given keys overridden.
TaskConfig looked_at(const RunConfig& config, const InspectOptions& options, int64_t vocabulary) {
  struct Root : Configurable {
    TaskConfig task;
    void visit(Fields& fields) override { fields.group("task", task); }
  } root;
  root.task = config.task;
  assign(root, options.task);
  root.task.validate();
  const int64_t needed = root.task.make()->vocabulary();
  if (needed > vocabulary) {
    refuse("the task has {} tokens, but the model was trained with {}: choose a smaller task.vocab", needed,
           vocabulary);
  }
  return root.task;
}

}  // namespace

OpenedRun open_run(const InspectOptions& options) {
  OpenedRun run;
  run.config = read_run_config({options.run});
  const std::string checkpoint = checkpoint_path(options);
  run.model = make_model(run.config);
  run.step = load_parameters(checkpoint, run.model);
  run.model->to(options.device);
  run.task = looked_at(run.config, options, run.model->vocabulary());
  return run;
}

int64_t seed_of_examples(const InspectOptions& options, const RunConfig& config) {
  return options.seed.value_or(config.train.seed);
}

std::vector<Watched> mixers_of(const OpenedRun& run) {
  std::vector<Watched> all;
  const std::vector<std::string> items = run.config.model.layer_mixers();
  for (size_t layer = 0; layer < items.size(); ++layer) {
    const std::vector<HeadShare> shares = parse_heads(items[layer]);
    TokenMixer* const whole = run.model->layers()[layer]->mixer().get();
    const auto* mixture = dynamic_cast<const HeadwiseMixer*>(whole);
    for (size_t part = 0; part < shares.size(); ++part) {
      MixerView view{static_cast<int64_t>(layer), mixture != nullptr ? static_cast<int64_t>(part) : -1,
                     shares[part].mixer};
      all.push_back({view, mixture != nullptr ? mixture->kinds()[part].get() : whole});
    }
  }
  return all;
}

std::vector<int64_t> numbers_up_to(int64_t last, int64_t most) {
  const int64_t n = std::min(last, most);
  std::vector<int64_t> all;
  for (int64_t i = 1; i <= n; ++i) all.push_back((i * last + n / 2) / n);
  return all;
}

void stop_when_asked() {
  if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while inspecting the model");
}

}  // namespace klab
