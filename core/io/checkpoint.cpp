// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.h"

#include <ATen/ATen.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/safetensors.h"

namespace klab {
namespace {

// The checksum is inside the file that it covers, so it is computed with this placeholder instead.
constexpr const char* kChecksumField = "klab.checksum";
const std::string kNoChecksum(16, '0');

class Checksum {
 public:
  Checksum() : state_(XXH3_createState(), &XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  void add(std::string_view bytes) { XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()); }
  std::string text() const { return fmt::format("{:016x}", XXH3_64bits_digest(state_.get())); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

at::Tensor plain(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU).contiguous(); }

std::string_view stored_bytes(const at::Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

// Of the whole file; its pages are in memory a few at a time.
std::string checksum_of(const std::string& path, const std::string& stored) {
  constexpr size_t kPart = size_t{16} << 20;
  const MappedFile file(path);
  const std::string entry = fmt::format("\"{}\":\"{}\"", kChecksumField, stored);
  const size_t at = file.bytes().find(entry);
  if (at == std::string::npos || stored.size() != kNoChecksum.size()) fail("{}: its checksum is malformed", path);
  const size_t digits = at + entry.size() - 1 - stored.size();
  Checksum checksum;
  checksum.add(file.bytes().substr(0, digits));
  checksum.add(kNoChecksum);
  for (size_t begin = digits + stored.size(); begin < file.size(); begin += kPart) {
    checksum.add(file.bytes().substr(begin, kPart));
    file.release_pages(begin, std::min(begin + kPart, file.size()));
  }
  return checksum.text();
}

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
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    entries.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  std::map<std::string, std::string> metadata = checkpoint.fields;
  metadata[kChecksumField] = kNoChecksum;
  Checksum checksum;
  checksum.add(safetensors_header(entries, metadata));
  for (const auto& [name, tensor] : checkpoint.tensors) checksum.add(stored_bytes(plain(tensor)));
  metadata[kChecksumField] = checksum.text();
  SafetensorsWriter writer(path, std::move(entries), metadata);
  for (const auto& [name, tensor] : checkpoint.tensors) writer.write(name, tensor);
  writer.commit();
}

Checkpoint load_checkpoint(const std::string& path, std::string_view prefix) {
  const SafetensorsFile file(path);
  std::map<std::string, std::string> fields = file.metadata();
  const auto stored = fields.find(kChecksumField);
  if (stored == fields.end()) fail("{}: not a klab checkpoint: it carries no checksum", path);
  if (checksum_of(path, stored->second) != stored->second) {
    fail("{}: the checksum does not match: the file was damaged after it was written; nothing was loaded", path);
  }
  fields.erase(stored);
  Checkpoint checkpoint{{}, std::move(fields)};
  for (const auto& [name, entry] : file.entries()) {
    if (!name.starts_with(prefix)) continue;
    checkpoint.tensors[name] = file.tensor(name).clone();
    file.release_pages(name);
  }
  return checkpoint;
}

}  // namespace klab
