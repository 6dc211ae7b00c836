// Scalars in TensorBoard's event files.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace klab {

/// Writes one event file, `events.out.tfevents.<seconds>.<host>.<process>`, into a folder: records as TFRecord has them
/// (length, masked CRC-32C, bytes, masked CRC-32C), each an Event message of protocol buffers. What TensorBoard shows
/// of an earlier file of the folder from `first_step` on, it drops: a resumed run takes these steps again.
class TensorboardWriter {
 public:
  /// Throws Error when the file cannot be made.
  TensorboardWriter(const std::string& folder, int64_t first_step);
  ~TensorboardWriter();
  TensorboardWriter(const TensorboardWriter&) = delete;
  TensorboardWriter& operator=(const TensorboardWriter&) = delete;

  /// Tags with their values at a step; in the file when this returns. Throws Error.
  void scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values);

 private:
  void record(const std::string& event);

  std::string path_;
  std::FILE* file_;
};

}  // namespace klab
