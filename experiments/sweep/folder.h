// SPDX-License-Identifier: Apache-2.0
// A sweep on disk: DIR/plan.json, and a folder DIR/<id>/ per run, as written by `klab train`.
//
// Launcher, workers and later calls share only this folder, so any of them may be killed at any time. A worker
// holds an advisory lock on the folder of its run; the system releases it when the worker ends.
#pragma once

#include <string>

#include "experiments/run/record.h"
#include "experiments/sweep/plan.h"

namespace klab {

class SweepFolder {
 public:
  explicit SweepFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string plan() const { return path_ + "/plan.json"; }
  std::string lock() const { return path_ + "/lock"; }
  std::string results() const { return path_ + "/results.csv"; }
  std::string curves() const { return path_ + "/curves.csv"; }
  std::string evaluations() const { return path_ + "/evaluations.csv"; }
  RunFolder run(const std::string& id) const { return RunFolder{path_ + "/" + id}; }
  std::string config(const std::string& id) const { return run(id).config(); }

  Plan read_plan() const;
  RunRecord read(const std::string& id) const { return read_record(run(id)); }
  void write(const std::string& id, const RunRecord& record) const { write_record(run(id), record); }

 private:
  std::string path_;
};

}  // namespace klab
