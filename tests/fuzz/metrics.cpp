// SPDX-License-Identifier: Apache-2.0
#include "core/train/metrics_file.h"

#include <filesystem>

#include "fuzz/target.h"

namespace klab::fuzz {

// A run is resumed at step 20 with any metrics.csv; rows can be appended, and what is kept is of earlier steps.
void metrics(std::string_view input) {
  const std::vector<std::string> columns = {"step", "split", "loss"};
  std::filesystem::create_directories(scratch_folder() + "/run");
  const RunFolder folder{scratch_folder() + "/run"};
  scratch_file("run/metrics.csv", input);
  open_metrics(folder, {"command: ./klab train"}, columns, /*resume=*/true, /*step=*/20)->row({"40", "train", "1.5"});
  const CsvTable table = read_csv(folder.metrics());
  expect(table.columns == columns, "the columns of a resumed run are not those of its rows");
  expect(table.rows.back() == std::vector<std::string>{"40", "train", "1.5"}, "an appended row is read as another one");
  for (const auto& row : table.rows) expect(row[1] != "test", "a resumed run has a row of its end");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(metrics)
