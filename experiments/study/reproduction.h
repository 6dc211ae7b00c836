// SPDX-License-Identifier: Apache-2.0
// Reproductions of figures and tables of the Kimi Linear report (arXiv 2510.26692), and of published suites of tasks.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace klab {

struct ReproduceOptions {
  std::string scale = "small";
  std::string out;           ///< output folder: CSV files, pictures, page.md
  std::string command_line;  ///< quoted, for the headers of results
  double budget_hours = 0.5;
  std::string device = "cpu";
  std::optional<int64_t> seed;  ///< seed of the learning rate search; the following ones are for the measurement
  bool redraw = false;          ///< use the measurements of an earlier call
  bool quiet = false;
};

/// One figure, table or suite: its folder under experiments/, and what it claims.
struct Reproduction {
  std::string name;
  std::string claim;
  std::function<void(const ReproduceOptions&)> run;
  bool has_paper_scale = true;
  bool has_seeds = false;   ///< trains models, in sweeps
  bool has_redraw = false;  ///< can be redrawn from its measured.csv
  bool has_device = true;   ///< false: measures only the CPU
};

/// Writes OUT/page.md.
void write_page(const ReproduceOptions& options, const std::vector<std::string>& lines);

// One per figure, table or suite, listed in reproduce.cpp.
Reproduction complexity_reproduction();
Reproduction fig1_reproduction();
Reproduction fig2_reproduction();
Reproduction fig4_reproduction();
Reproduction fig5_reproduction();
Reproduction fig6_reproduction();
Reproduction fig7_reproduction();
Reproduction formal_reproduction();
Reproduction mad_reproduction();
Reproduction table1_reproduction();
Reproduction table5_reproduction();

}  // namespace klab
