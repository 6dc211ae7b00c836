// SPDX-License-Identifier: Apache-2.0
// A study file: a sweep file with a section `study` that states, before anything runs, what is compared and how.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/verdict.h"
#include "experiments/sweep/sweep_file.h"

namespace klab {

/// "x does better than y": two values of the compared key.
struct Claim {
  std::string better, than;
  std::string text() const { return better + " above " + than; }
};

/// The section `study`.
struct StudyConfig : Configurable {
  std::string question;                                           ///< in words, for the page
  std::vector<Value> claims;                                      ///< maps {better: kda, than: gdn}
  std::string compare = "model.pattern";                          ///< the key whose values are compared
  std::vector<std::string> cells = {"task.name", "task.length"};  ///< keys; a claim is judged in each combination
  std::string choose = "train.lr";         ///< chosen per cell and compared value, by one search seed
  std::string choose_by = "best_acc_tok";  ///< on validation data
  int64_t seeds = 10;                      ///< new ones per cell and compared value
  std::string metric = "test_acc_tok";     ///< primary outcome
  double margin = 0;                       ///< of equality, in the metric's unit
  std::string assume = "shift";            ///< of the equality test: shift or bounded
  bool paired = false;
  double alpha = 0.05;
  double solved_at = 0.99;        ///< best_test_acc_seq from which a run counts as solved
  std::string reach = "acc_tok";  ///< metric of validation data whose steps to `reach_at` are compared
  double reach_at = 0.9;

  void visit(Fields& fields) override;

  /// The claims; throws UsageError for one without `better` and `than`.
  std::vector<Claim> claim_list() const;

  /// How a claim is tested on the primary outcome.
  Question primary() const;
};

struct StudyFile {
  std::string name, text;  ///< of the file
  StudyConfig study;
  Sweep search;
};

/// Reads a study file: a sweep file (sweep_file.h) with a map `study` of StudyConfig's keys. Its runs are the search;
/// without a key to choose they only say what is run with new seeds. `overrides` apply to every run and become a part
/// of its text. Throws UsageError.
StudyFile read_study(const std::string& path, const std::vector<Assignment>& overrides = {});

/// The same for a file that is compiled into the program.
StudyFile read_builtin_study(const std::string& name, const std::vector<Assignment>& overrides = {});

}  // namespace klab
