// SPDX-License-Identifier: Apache-2.0
// How much memory tensors take while something is computed.
#pragma once

#include <c10/util/ThreadLocalDebugInfo.h>

#include <cstdint>
#include <memory>

namespace klab {

/// Counts the bytes of tensors that are allocated during its lifetime, by this thread and by those that compute for it,
/// on every device. Tensors from before do not count.
class MemoryMeter {
 public:
  MemoryMeter();

  int64_t live() const;  ///< bytes of those tensors that still exist
  int64_t peak() const;  ///< the largest live() since restart_peak() or the beginning
  void restart_peak();

 private:
  class Report;
  std::shared_ptr<Report> report_;
  c10::DebugInfoGuard guard_;
};

}  // namespace klab
