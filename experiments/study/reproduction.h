// Figures and tables of the Kimi Linear report (arXiv 2510.26692), measured again here.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace klab {

struct ReproduceOptions {
  std::string scale = "small";
  std::string out;           ///< folder for what a figure makes: CSV, pictures, a page
  std::string command_line;  ///< quoted, for their headers
  double budget_hours = 0.5;
  std::string device = "cpu";
  std::optional<int64_t> seed;  ///< of the search for learning rates; those behind it measure
  bool redraw = false;          ///< from what was measured before
  bool quiet = false;
};

/// One figure or table: its folder under experiments/, and what it claims.
struct Reproduction {
  std::string name;
  std::string claim;
  std::function<void(const ReproduceOptions&)> run;
  bool has_paper_scale = true;
  bool has_seeds = false;   ///< it trains models, in sweeps
  bool has_redraw = false;  ///< it can be drawn again from its measured.csv
  bool has_device = true;   ///< false: it measures the CPU only
};

// One per figure or table, listed in reproduce.cpp.
Reproduction complexity_reproduction();
Reproduction fig1_reproduction();
Reproduction fig2_reproduction();
Reproduction fig4_reproduction();
Reproduction fig7_reproduction();
Reproduction table5_reproduction();

}  // namespace klab
