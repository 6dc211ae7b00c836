// SPDX-License-Identifier: Apache-2.0
// The results of a study: page.md, pictures, and the data of the Kaplan-Meier curves.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/reproduction.h"
#include "experiments/study/study_page.h"

namespace klab {

/// Writes OUT/page.md: the title, `introduction`, the study's page and `appendix`. Draws the primary outcome with every
/// seed (outcome-*.png, from outcomes.csv), and for every cell the convergence with every seed (curves-*.png) and the
/// share of runs that have not reached the threshold (waiting-*.png, from survival.csv). `pictures` of the caller, by
/// file name, come first. A cell with more compared values than a picture can show has none.
void write_study_report(const Study& study, const StudyVerdicts& verdicts, const std::string& out,
                        const std::string& title, const std::vector<std::string>& introduction = {},
                        const std::vector<std::string>& appendix = {}, const std::vector<std::string>& pictures = {});

/// Prints how often each claim held, and the page's path.
void print_verdicts(const std::string& name, const StudyVerdicts& verdicts, const std::string& out);

/// How the study of a figure is run.
StudyOptions study_options(const ReproduceOptions& options);

/// The study file of a figure of the report, figures/NAME/SCALE.yaml, with --seed.
StudyFile read_figure(const std::string& name, const ReproduceOptions& options);

/// Runs that study.
Study run_figure(const std::string& name, const ReproduceOptions& options);

}  // namespace klab
