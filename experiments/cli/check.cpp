// SPDX-License-Identifier: Apache-2.0
// klab check: compares every implementation of every operator with its definition.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "core/check/matrix.h"
#include "experiments/command/command.h"
#include "experiments/run/device.h"

#include <ATen/Parallel.h>

namespace klab {
namespace {

const std::vector<std::string> kColumns = {"operator", "implementation", "dtype",        "shape", "worst in", "error",
                                           "allowed",  "used",           "relative RMS", "index", ""};

struct CheckOptions {
  MatrixFilter filter;
  std::vector<std::string> dtypes;
  bool failures_only = false;
};

std::string index_text(const std::vector<int64_t>& index) { return fmt::format("[{}]", fmt::join(index, " ")); }

std::vector<std::string> cells(const CheckRow& row) {
  return {row.operator_name,
          row.implementation,
          row.dtype,
          row.workload,
          row.tensor.empty() ? "-" : row.tensor,
          fmt::format("{:.2e}", row.error),
          fmt::format("{:.2e}", row.allowed),
          fmt::format("{:.0f}%", 100 * row.ratio),
          fmt::format("{:.2e}", row.relative_rms),
          index_text(row.index),
          row.pass ? "ok" : "FAIL"};
}

std::vector<at::ScalarType> parse_dtypes(const std::vector<std::string>& names) {
  std::vector<at::ScalarType> types;
  for (const std::string& name : names) {
    for (const CheckedDtype& known : kCheckedDtypes) {
      if (name == known.name) types.push_back(known.type);
    }
  }
  return types;
}

int check(CheckOptions options, const Globals& globals) {
  options.filter.dtypes = parse_dtypes(options.dtypes);
  options.filter.device = open_device(globals.device);
  int64_t count = 0;
  const std::vector<CheckRow> rows = run_matrix(options.filter, [&](const CheckRow& row) {
    ++count;
    if (!globals.quiet)
      fmt::print(stderr, "\r\x1b[K{} cells  {} {} {}", count, row.operator_name, row.dtype, row.workload);
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted");
  });
  if (!globals.quiet) fmt::print(stderr, "\r\x1b[K");
  if (rows.empty()) refuse("no operator matches: try --operator recurrence, or no filter");

  std::vector<std::vector<std::string>> table;
  int64_t failed = 0;
  for (const CheckRow& row : rows) {
    failed += row.pass ? 0 : 1;
    if (!row.pass || !options.failures_only) table.push_back(cells(row));
  }
  if (!table.empty()) fmt::print("{}", format_table(kColumns, table));
  for (const CheckRow& row : rows) {
    if (!row.pass)
      fmt::print("\n{} {} {} {}:\n{}\n", row.operator_name, row.implementation, row.dtype, row.workload, row.message);
  }
  if (!globals.out.empty()) {
    CsvTable csv{provenance(globals.command_line, at::get_num_threads()), kColumns, {}};
    csv.columns.back() = "verdict";
    for (const CheckRow& row : rows) csv.rows.push_back(cells(row));
    write_file(globals.out, csv.text());
  }
  fmt::print("\n{} cells passed, {} failed\n", static_cast<int64_t>(rows.size()) - failed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace

Command check_command() {
  return {"check", "compare every operator x implementation x dtype x shape with its definition",
          "./klab check --quick", takes::threads | takes::device | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<CheckOptions>();
            app.add_option("--operator", options->filter.operators, "only operators whose name contains this");
            app.add_option("--implementation", options->filter.implementation, "only this implementation")
                .one_of({"automatic", "reference", "composed", "chunk", "cpu", "cuda"});
            app.add_option("--dtype", options->dtypes, "only these: float64, float32, bfloat16, float16")
                .comma_separated()
                .one_of({"float64", "float32", "bfloat16", "float16"});
            app.add_flag("--quick", options->filter.quick, "only small shapes");
            app.add_flag("--failures", options->failures_only, "print only failures");
            return [options, &globals] { return check(*options, globals); };
          }};
}

}  // namespace klab
