// SPDX-License-Identifier: Apache-2.0
// Study files and runs for tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/run/run.h"
#include "experiments/study/study.h"

namespace klab {

/// Two mixers at two learning rates, for runs of a tenth of a second; `study` are lines of that section.
inline std::string study_text(const std::string& study, const std::string& rates = "[1e-3, 1e-2]") {
  return "base:\n"
         "  task: {name: copy, length: 9, vocab: 8}\n"
         "  model: {layers: 1, width: 8, heads: 1, head_dim: 8}\n"
         "  train: {batch: 4, steps: 8, eval_every: 4, eval_examples: 8, checkpoint_every: 4, stop_at: 2}\n"
         "grid:\n"
         "  model.pattern: [kda, gdn]\n"
         "  train.lr: " +
         rates +
         "\n"
         "study:\n"
         "  claims: [{better: kda, than: gdn}]\n" +
         study;
}

/// The study in a file `question.yaml` of this text.
inline StudyFile study_file(const Folder& folder, const std::string& text,
                            const std::vector<Assignment>& overrides = {}) {
  write_file(folder / "question.yaml", text);
  return read_study(folder / "question.yaml", overrides);
}

/// The mixer of a run, without the brackets of its pattern.
inline std::string mixer_of(const RunConfig& config) { return config.model.pattern.front(); }

/// Creates the folder of a run in a sweep's folder.
inline RunFolder begin_run(const std::string& sweep, const RunConfig& config) {
  const RunFolder run{sweep + "/" + config_hash(config)};
  std::filesystem::create_directories(run.path);
  std::ofstream(run.config()) << to_yaml(config);
  return run;
}

}  // namespace klab
