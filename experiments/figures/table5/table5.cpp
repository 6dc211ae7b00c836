// SPDX-License-Identifier: Apache-2.0
// Table 5: position encoding. Hybrids without or with rotary positions in attention, and attention alone, on needle
// retrieval beyond the trained length.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/csv.h"
#include "experiments/figures/study_report/study_report.h"
#include "experiments/plot/plot.h"
#include "experiments/study/bounded_mean.h"

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

constexpr double kLearnt = 0.9;  // share at the trained length below which a comparison beyond it says little

std::string cell_text(const Results& results, const Contestant& one, int64_t length) {
  const auto found = results.shares.find({one.pattern, length});
  if (found == results.shares.end()) return "-";
  const Interval interval = mean_interval(found->second, {0, 1});
  return fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * mean_of(found->second), 100 * interval.low, 100 * interval.high);
}

std::vector<std::string> table_of(const Results& results) {
  std::string head = "| model |", rule = "|---|";
  for (const int64_t length : results.lengths) {
    head += fmt::format(" {} |", length);
    rule += "---|";
  }
  std::vector<std::string> lines{head + " reported (RULER) |", rule + "---|"};
  for (const Contestant& one : contestants()) {
    std::string line = fmt::format("| {} |", one.name);
    for (const int64_t length : results.lengths) line += fmt::format(" {} |", cell_text(results, one, length));
    lines.push_back(line + fmt::format(" {} ({}) |", one.long_context, one.ruler));
  }
  return lines;
}

// The first contestant against every other one beyond the trained length, as one family.
std::vector<std::string> verdict_table(const Results& results, const StudyConfig& config) {
  std::vector<Comparison> family;
  for (size_t i = 1; i < contestants().size(); ++i) {
    for (size_t l = 1; l < results.lengths.size(); ++l) {
      const auto values = [&](const Contestant& one) {
        const auto found = results.shares.find({one.pattern, results.lengths[l]});
        return found == results.shares.end() ? std::vector<double>{} : found->second;
      };
      family.push_back({config.primary(), values(contestants()[0]), values(contestants()[i]), {}, {}});
    }
  }
  if (family.empty()) return {};
  const std::vector<Judgement> judgements = judge(family);
  std::vector<std::string> lines{"",
                                 fmt::format("{} above the others, beyond the trained length:", contestants()[0].name),
                                 "", "| | length | difference in points | verdict |", "|---|---|---|---|"};
  size_t at = 0;
  for (size_t i = 1; i < contestants().size(); ++i) {
    for (size_t l = 1; l < results.lengths.size(); ++l, ++at) {
      const std::string effect =
          judgements[at].verdict == Verdict::not_measured ? "-" : fmt::format("{:+.1f}", 100 * judgements[at].effect);
      lines.push_back(fmt::format("| {} | {} | {} | {} |", contestants()[i].name, results.lengths[l], effect,
                                  verdict_text(judgements[at], family[at].question)));
    }
  }
  return lines;
}

// A model that has not learnt the trained length cannot show how far it generalises.
std::vector<std::string> warnings(const Results& results) {
  std::vector<std::string> lines;
  for (const Contestant& one : contestants()) {
    const auto found = results.shares.find({one.pattern, results.lengths.front()});
    if (found == results.shares.end() || mean_of(found->second) >= kLearnt) continue;
    lines.insert(lines.end(),
                 {"", fmt::format("**{} has not learnt the trained length** ({:.1f} %): its results beyond "
                                  "it do not show how it generalises.",
                                  one.name, 100 * mean_of(found->second))});
  }
  return lines;
}

std::vector<std::string> appendix_of(const Results& results, const StudyConfig& config) {
  if (results.lengths.empty()) return {};
  std::vector<std::string> lines = {
      "", "## Beyond the trained length", "",
      fmt::format("Percent of needle queries answered correctly, trained at {} tokens: mean over seeds with its 95 % "
                  "interval. The last column has the report's averages over long-context suites (and RULER alone).",
                  results.lengths.front()),
      ""};
  for (const auto& more : {table_of(results), warnings(results), verdict_table(results, config)}) {
    lines.insert(lines.end(), more.begin(), more.end());
  }
  return lines;
}

void draw(const std::string& out) {
  PlotOptions heat;
  heat.files = {out + "/evaluations.csv"};
  heat.heat = "acc_tok";
  heat.x = "length";
  heat.y = "difficulty";
  heat.y_label = "depth (tenths of the haystack)";
  heat.group_by = "model.pattern";
  heat.title = "Needles found, by length and depth";
  heat.out = out + "/depth.png";
  plot(heat);
}

void run(const ReproduceOptions& options) {
  const Study study = run_figure("table5", options);
  const bool measured = !study.measured.empty();
  const Results results = measured ? read_results(options.out + "/evaluations.csv") : Results{};
  if (measured) draw(options.out);
  write_study_report(study, judge_study(study), options.out, "Table 5: position encoding", {},
                     appendix_of(results, study.config));
  fmt::print("table5: {}/page.md\n", options.out);
}

}  // namespace

Reproduction table5_reproduction() {
  return {"table5", "hybrids without position encoding generalise furthest beyond the trained length", run,
          /*has_paper_scale=*/true, /*has_seeds=*/true};
}

}  // namespace klab
