// SPDX-License-Identifier: Apache-2.0
// The data of the pictures of klab inspect, as CSV.
#pragma once

#include <string>
#include <vector>

#include "core/base/csv.h"
#include "experiments/inspect/inspection.h"

namespace klab {

/// A CSV file for the output folder.
struct NamedTable {
  std::string file;
  CsvTable table;
};

/// half_life.csv and effective_rank.csv (if there are linear mixers), weights_<mixer>.csv, accuracy.csv, example.csv,
/// answers.csv (of reinforcement learning).
std::vector<NamedTable> inspection_tables(const Inspection& found, const std::vector<std::string>& provenance);

}  // namespace klab
