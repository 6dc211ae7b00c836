// SPDX-License-Identifier: Apache-2.0
// Writes scalars to TensorBoard event files.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"

namespace klab {

/// Writes one event file, `events.out.tfevents.<seconds>.<host>.<process>`, into a folder: TFRecord records
/// (length, masked CRC-32C, bytes, masked CRC-32C), each an Event protocol buffer. For a resumed run, TensorBoard drops
/// the values of earlier files in the folder after `first_step`, because those steps are repeated.
class TensorboardWriter {
 public:
  /// Throws Error when the file cannot be created.
  TensorboardWriter(const std::string& folder, int64_t first_step);

  /// Writes values by tag at a step; they are in the file on return. Throws Error.
  void scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values);

 private:
  void record(const std::string& event);

  AppendedFile file_;
};

}  // namespace klab
