// SPDX-License-Identifier: Apache-2.0
#include "core/base/csv.h"

#include "fuzz/target.h"

namespace klab::fuzz {

// A table is read as it was written.
void csv(std::string_view input) {
  const CsvTable table = read_csv(scratch_file("table.csv", input));
  const CsvTable again = read_csv(scratch_file("again.csv", table.text()));
  expect(again.columns == table.columns && again.rows == table.rows, "a written CSV table is read as another one");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(csv)
