// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/verify.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/progress.h"
#include "core/base/provenance.h"
#include "core/base/random.h"
#include "core/base/text.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kCompared = {"test_loss",      "test_acc_tok",      "test_acc_seq",
                                            "best_test_loss", "best_test_acc_tok", "best_test_acc_seq"};

// A folder that is removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "klab-verify-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) fail("cannot create the folder '{}': {}", pattern, std::strerror(errno));
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string machine_of(const std::vector<std::string>& comments) {
  for (const std::string& line : comments) {
    if (line.rfind("machine: ", 0) == 0) return line.substr(9);
  }
  return "unknown";
}

std::string version_of(const std::vector<std::string>& comments) {
  return comments.empty() ? "unknown" : comments.front();
}

// The keys of the study's runs, dotted columns of the results, except the seed.
std::vector<std::string> keys_of(const CsvTable& results) {
  std::vector<std::string> keys;
  for (const std::string& column : results.columns) {
    if (column.find('.') != std::string::npos && column != "train.seed") keys.push_back(column);
  }
  return keys;
}

std::string value_of(const RunConfig& config, const std::string& key) {
  const Fields fields = Fields::of(config);
  const Field* field = fields.find(key);
  return field == nullptr ? "" : text_of(field->get());
}

// The config of a row: that of the study's file with the same keys, and the row's seed.
RunConfig config_of_row(const StudyFile& study, const CsvTable& results, const std::vector<std::string>& row) {
  const std::vector<std::string> keys = keys_of(results);
  for (RunConfig config : study.search.configs) {
    const bool fits = std::all_of(keys.begin(), keys.end(), [&](const std::string& key) {
      return value_of(config, key) == row[results.column(key)];
    });
    if (!fits) continue;
    config.train.seed = std::stoll(row[results.column("train.seed")]);
    return config;
  }
  fail("no run of study.yaml has the keys of run {} in results.csv", row[results.column("run")]);
}

RunRecord repeat(const RunConfig& config, const std::string& name, bool quiet) {
  const TemporaryFolder folder;
  write_file(folder.path() + "/config.yaml", to_yaml(config));
  Progress progress(name, config.train.steps, 0, quiet);
  const RunRecord record = train_run({folder.path()}, {}, [&](RunRecord&, const TrainStatus* status, bool) {
    if (status != nullptr) progress.update(status->step, "");
  });
  if (record.state == RunState::failed) fail("the repeated run failed: {}", record.reason);
  return record;
}

// Whether two rows are of one cell: equal in every key.
bool same_cell(const CsvTable& results, const std::vector<std::string>& a, const std::vector<std::string>& b) {
  const std::vector<std::string> keys = keys_of(results);
  return std::all_of(keys.begin(), keys.end(),
                     [&](const std::string& key) { return a[results.column(key)] == b[results.column(key)]; });
}

VerifiedMetric compare(const CsvTable& results, const std::vector<std::string>& row, const std::string& name,
                       const RunRecord& record) {
  VerifiedMetric metric{name, std::stod(row[results.column(name)]), metric_of(record, name), false, false, 0, 0};
  metric.equal = fmt::format("{:.6f}", metric.repeated) == row[results.column(name)];
  metric.low = metric.high = metric.committed;
  for (const auto& other : results.rows) {
    if (!same_cell(results, row, other) || other[results.column(name)].empty()) continue;
    const double value = std::stod(other[results.column(name)]);
    metric.low = std::min(metric.low, value);
    metric.high = std::max(metric.high, value);
  }
  const bool is_loss = name.ends_with("loss");  // has no unit to compare by: equal on the same origin only
  metric.within = is_loss || (metric.repeated >= metric.low - kVerifyTolerance &&
                              metric.repeated <= metric.high + kVerifyTolerance);
  return metric;
}

}  // namespace

bool VerifiedRun::passed() const {
  return std::all_of(metrics.begin(), metrics.end(),
                     [&](const VerifiedMetric& metric) { return same_origin ? metric.equal : metric.within; });
}

std::vector<VerifiedRun> verify_study(const std::string& folder, int64_t count, uint64_t seed, bool quiet) {
  for (const char* file : {"study.yaml", "results.csv"}) {
    if (!fs::exists(folder + "/" + file)) refuse("'{}' is not the results of a study: it has no {}", folder, file);
  }
  const StudyFile study = read_study(folder + "/study.yaml");
  const CsvTable results = read_csv(folder + "/results.csv");
  std::vector<size_t> tested;
  for (size_t i = 0; i < results.rows.size(); ++i) {
    if (!results.rows[i][results.column("test_loss")].empty()) tested.push_back(i);
  }
  if (tested.empty()) fail("'{}/results.csv' has no run with test results", folder);
  Random random{seed};
  std::vector<VerifiedRun> runs;
  at::set_num_threads(1);  // as in the study: the order of sums depends on it
  const std::vector<std::string> here = provenance("", 1);
  for (const int64_t place : random.distinct(std::min<int64_t>(count, static_cast<int64_t>(tested.size())),
                                             static_cast<int64_t>(tested.size()))) {
    const auto& row = results.rows[tested[static_cast<size_t>(place)]];
    std::vector<std::string> words;
    for (const std::string& key : keys_of(results)) words.push_back(key + "=" + row[results.column(key)]);
    words.push_back("seed=" + row[results.column("train.seed")]);
    VerifiedRun run{join(words, " "), version_of(results.comments), machine_of(results.comments), false, {}};
    run.same_origin = run.version == version_of(here) && run.machine == machine_of(here);
    const RunRecord record = repeat(config_of_row(study, results, row), row[results.column("run")], quiet);
    for (const std::string& name : kCompared) run.metrics.push_back(compare(results, row, name, record));
    runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace klab
