// SPDX-License-Identifier: Apache-2.0
// The verdicts of a study, and its page in Markdown.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/study.h"

namespace klab {

/// The judgements on all claims in all cells, [cell][claim], by each of the three outcomes. An outcome is a family of
/// its own; the primary one decides.
struct StudyVerdicts {
  std::vector<Claim> claims;
  std::vector<StudyCell> cells;
  Question question;                            ///< of the primary outcome
  std::vector<std::vector<Judgement>> primary;  ///< the study's metric
  std::vector<std::vector<Judgement>> solved;   ///< shares of runs that solved the task
  std::vector<std::vector<Judgement>> steps;    ///< steps until the threshold
};
StudyVerdicts judge_study(const Study& study);

/// "kda above gdn: held in 5, equal in 2, not decided in 2 of 9 cells." for every claim, by the primary outcome;
/// nothing if no run is over yet.
std::vector<std::string> verdict_counts(const StudyVerdicts& verdicts);

/// The page: what was stated before the runs, verdicts and numbers per cell, settings chosen, provenance.
std::vector<std::string> study_page(const Study& study, const StudyVerdicts& verdicts);

}  // namespace klab
