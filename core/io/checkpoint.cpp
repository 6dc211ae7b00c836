// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.h"

#include <ATen/ATen.h>
#include <xxhash.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/safetensors.h"

namespace klab {
namespace {

// The checksum is inside the file that it covers, so it is computed with this placeholder instead.
constexpr const char* kChecksumField = "klab.checksum";
const std::string kNoChecksum(16, '0');

std::string checksum(std::string_view bytes) { return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size())); }

}  // namespace

const std::string& Checkpoint::field(const std::string& name) const {
  const auto found = fields.find(name);
  if (found == fields.end()) fail("the checkpoint has no field '{}'", name);
  return found->second;
}

const at::Tensor& Checkpoint::tensor(const std::string& name) const {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail("the checkpoint has no tensor '{}'", name);
  return found->second;
}

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  Safetensors content{checkpoint.tensors, checkpoint.fields};
  content.metadata[kChecksumField] = kNoChecksum;
  std::string bytes = encode_safetensors(content);
  const std::string placeholder = fmt::format("\"{}\":\"{}\"", kChecksumField, kNoChecksum);
  const size_t at = bytes.find(placeholder);
  bytes.replace(at + placeholder.size() - 1 - kNoChecksum.size(), kNoChecksum.size(), checksum(bytes));
  write_file(path, bytes);
}

Checkpoint load_checkpoint(const std::string& path) {
  std::string bytes = read_file(path);
  Safetensors content = decode_safetensors(bytes, path);
  const auto stored = content.metadata.find(kChecksumField);
  if (stored == content.metadata.end()) fail("{}: not a klab checkpoint: it carries no checksum", path);
  const std::string entry = fmt::format("\"{}\":\"{}\"", kChecksumField, stored->second);
  const size_t at = bytes.find(entry);
  if (at == std::string::npos || stored->second.size() != kNoChecksum.size())
    fail("{}: its checksum is malformed", path);
  bytes.replace(at + entry.size() - 1 - kNoChecksum.size(), kNoChecksum.size(), kNoChecksum);
  if (checksum(bytes) != stored->second) {
    fail("{}: the checksum does not match: the file was damaged after it was written; nothing was loaded", path);
  }
  content.metadata.erase(stored);
  return {std::move(content.tensors), std::move(content.metadata)};
}

}  // namespace klab
