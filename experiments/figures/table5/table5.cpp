// SPDX-License-Identifier: Apache-2.0
// Table 5: position encoding. Hybrids without or with rotary positions in attention, and attention alone, on needle
// retrieval beyond the trained length.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/csv.h"
#include "experiments/plot/plot.h"
#include "experiments/study/study.h"

namespace klab {
namespace {

struct Contestant {
  const char *pattern, *name;
  double long_context, ruler;  // as reported
};

const std::vector<Contestant>& contestants() {
  static const std::vector<Contestant> all = {{"[kda, kda, kda, mla]", "KDA hybrid, no positions", 54.5, 84.3},
                                              {"[kda, kda, kda, mla_rope]", "KDA hybrid, rotary", 51.8, 78.8},
                                              {"[mla_rope]", "attention alone, rotary", 52.2, 81.3},
                                              {"[gdn, gdn, gdn, mla]", "GDN hybrid, no positions", 51.2, 80.5}};
  return all;
}

struct Results {
  std::vector<int64_t> lengths;
  std::map<std::pair<std::string, int64_t>, std::vector<double>> shares;  // pattern and length: one per seed
};

// acc_seq of each run at each length, over all depths.
Results read_results(const std::string& file) {
  Results results;
  const CsvTable table = read_csv(file);
  const size_t pattern = table.column("model.pattern"), length = table.column("length"),
               difficulty = table.column("difficulty"), share = table.column("acc_seq");
  for (const auto& row : table.rows) {
    if (row[difficulty] != "all") continue;
    const int64_t tokens = std::stoll(row[length]);
    if (std::find(results.lengths.begin(), results.lengths.end(), tokens) == results.lengths.end()) {
      results.lengths.push_back(tokens);
    }
    results.shares[{row[pattern], tokens}].push_back(std::stod(row[share]));
  }
  std::sort(results.lengths.begin(), results.lengths.end());
  return results;
}

std::vector<std::string> page_of(const Results& results, const Study& study, const ReproduceOptions& options) {
  const std::string claim =
      "Claim: a KDA hybrid without position encoding in its attention generalises to longer sequences than one with "
      "rotary positions, attention alone, and a GDN hybrid.";
  std::vector<std::string> lines = {
      "# Table 5: position encoding",
      "",
      claim,
      "",
      fmt::format("Command: `{}`", options.command_line),
      "",
      fmt::format("Percent of needle queries answered correctly, trained at {} tokens; mean and 95 % interval over new "
                  "seeds. The last column has the report's averages over long-context suites (and RULER alone).",
                  results.lengths.empty() ? 0 : results.lengths.front()),
      ""};
  std::string head = "| model |", rule = "|---|";
  for (const int64_t length : results.lengths) {
    head += fmt::format(" {} |", length);
    rule += "---|";
  }
  lines.insert(lines.end(), {head + " reported (RULER) |", rule + "---|"});
  for (const Contestant& one : contestants()) {
    std::string line = fmt::format("| {} |", one.name);
    for (const int64_t length : results.lengths) {
      const auto found = results.shares.find({one.pattern, length});
      line += fmt::format(" {} |", found == results.shares.end() ? "-" : percent(found->second));
    }
    lines.push_back(line + fmt::format(" {} ({}) |", one.long_context, one.ruler));
  }
  lines.emplace_back("");
  for (size_t i = 1; i < contestants().size() && results.lengths.size() > 1; ++i) {
    std::string line =
        fmt::format("KDA hybrid without positions minus {}, beyond the trained length:", contestants()[i].name);
    for (size_t l = 1; l < results.lengths.size(); ++l) {
      const auto mine = results.shares.find({contestants()[0].pattern, results.lengths[l]}),
                 other = results.shares.find({contestants()[i].pattern, results.lengths[l]});
      if (mine == results.shares.end() || other == results.shares.end()) continue;
      line += fmt::format(" {}: {} ({});", results.lengths[l], difference(mine->second, other->second),
                          verdict(mine->second, other->second));
    }
    lines.push_back(line);
  }
  if (study.out_of_time) lines.push_back("**Incomplete**: the time limit was reached; repeat the command to continue.");
  return lines;
}

void run(const ReproduceOptions& options) {
  const Study study =
      run_study({"table5", {"model.pattern"}, "best_acc_seq", options.scale == "smoke" ? 2 : 3}, options);
  const std::string file = options.out + "/evaluations.csv";
  if (study.measured.empty()) {
    write_page(options, page_of({}, study, options));
  } else {
    write_page(options, page_of(read_results(file), study, options));
    PlotOptions heat;
    heat.files = {file};
    heat.heat = "acc_tok";
    heat.x = "length";
    heat.y = "difficulty";
    heat.y_label = "depth (tenths of the haystack)";
    heat.group_by = "model.pattern";
    heat.title = "Needles found, by length and depth";
    heat.out = options.out + "/depth.png";
    plot(heat);
  }
  fmt::print("table5: {}/page.md\n", options.out);
}

}  // namespace

Reproduction table5_reproduction() {
  return {"table5", "hybrids without position encoding generalise furthest beyond the trained length", run,
          /*has_paper_scale=*/true, /*has_seeds=*/true};
}

}  // namespace klab
