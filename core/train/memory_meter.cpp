// SPDX-License-Identifier: Apache-2.0
#include "core/train/memory_meter.h"

#include <c10/core/Allocator.h>

#include <algorithm>
#include <mutex>
#include <unordered_set>

namespace klab {

// Receives what torch's allocators report to profilers.
class MemoryMeter::Report : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void* address, int64_t bytes, size_t, size_t, c10::Device) override {
    const std::lock_guard lock(mutex_);
    if (bytes < 0 && known_.erase(address) == 0) return;  // from before
    if (bytes > 0) known_.insert(address);
    live_ += bytes;
    peak_ = std::max(peak_, live_);
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t live() const {
    const std::lock_guard lock(mutex_);
    return live_;
  }
  int64_t peak() const {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void restart_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = live_;
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_set<void*> known_;
  int64_t live_ = 0, peak_ = 0;
};

MemoryMeter::MemoryMeter() : report_(std::make_shared<Report>()), guard_(c10::DebugInfoKind::PROFILER_STATE, report_) {}

int64_t MemoryMeter::live() const { return report_->live(); }
int64_t MemoryMeter::peak() const { return report_->peak(); }
void MemoryMeter::restart_peak() { report_->restart_peak(); }

}  // namespace klab
