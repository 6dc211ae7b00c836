// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.h"

#include <ATen/ATen.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/safetensors.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// The checksum is inside the file that it covers, so it is computed with this placeholder instead.
constexpr const char* kChecksumField = "klab.checksum";
constexpr const char* kShardsField = "klab.shards";
const std::string kNoChecksum(16, '0');

}  // namespace

class FileChecksum {
 public:
  FileChecksum() : state_(XXH3_createState(), &XXH3_freeState) { XXH3_64bits_reset(state_.get()); }
  void add(std::string_view bytes) { XXH3_64bits_update(state_.get(), bytes.data(), bytes.size()); }
  std::string text() const { return fmt::format("{:016x}", XXH3_64bits_digest(state_.get())); }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

namespace {

std::string_view stored_bytes(const at::Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

std::map<std::string, std::string> with_shards(std::map<std::string, std::string> fields,
                                               const std::vector<std::string>& shards) {
  fields[kChecksumField] = kNoChecksum;
  if (!shards.empty()) fields[kShardsField] = nlohmann::ordered_json(shards).dump();
  return fields;
}

// "last-" of "runs/a/checkpoint/last.safetensors".
std::string shard_prefix(const std::string& path) { return fs::path(path).stem().string() + "-"; }

std::string shard_name(const std::string& path, const std::string& checksum) {
  return shard_prefix(path) + checksum + ".safetensors";
}

// Whether a file in the checkpoint's folder is a shard of it, now or before.
bool is_shard_name(const std::string& path, const std::string& file) {
  const std::string prefix = shard_prefix(path);
  if (!file.starts_with(prefix) || file.size() < prefix.size() + kNoChecksum.size()) return false;
  const std::string checksum = file.substr(prefix.size(), kNoChecksum.size());
  return checksum.find_first_not_of("0123456789abcdef") == std::string::npos && file == shard_name(path, checksum);
}

// The names of what a folder has. The standard library does not repeat a call that a signal interrupts.
std::vector<std::string> names_in(const std::string& folder) {
  std::error_code error;
  fs::directory_iterator entries;
  do {
    entries = fs::directory_iterator(folder, error);
  } while (error == std::errc::interrupted);
  std::vector<std::string> names;
  for (; !error && entries != fs::end(entries); entries.increment(error)) {
    names.push_back(entries->path().filename().string());
  }
  if (error) fail("cannot read the folder '{}': {}", folder, error.message());
  return names;
}

void delete_other_shards(const std::string& path, const std::vector<std::string>& kept) {
  const fs::path folder = fs::path(path).parent_path();
  for (const std::string& name : names_in(folder.empty() ? "." : folder.string())) {
    if (is_shard_name(path, name) && std::find(kept.begin(), kept.end(), name) == kept.end()) fs::remove(folder / name);
  }
}

// One of a checkpoint's files, not yet checked.
class StoredFile {
 public:
  explicit StoredFile(const std::string& path) : path_(path), file_(path), fields_(file_.metadata()) {
    const auto stored = fields_.find(kChecksumField);
    if (stored == fields_.end()) fail("{}: not a klab checkpoint: it carries no checksum", path);
    checksum_ = stored->second;
    fields_.erase(stored);
  }

  const std::string& checksum() const { return checksum_; }
  const std::map<std::string, std::string>& fields() const { return fields_; }

  // The names of the files with the checkpoint's other tensors.
  std::vector<std::string> shards() const {
    if (!fields_.contains(kShardsField)) return {};
    const auto names = Checkpoint{{}, fields_}.json_field<std::vector<std::string>>(kShardsField);
    for (const std::string& name : names) {
      if (!is_shard_name(path_, name)) fail("{}: '{}' cannot be the name of a shard of it", path_, name);
    }
    return names;
  }

  bool has(const std::function<bool(const std::string&)>& wanted) const {
    const auto& entries = file_.entries();
    return std::any_of(entries.begin(), entries.end(), [&](const auto& item) { return wanted(item.first); });
  }

  // Of the whole file; its pages are in memory a few at a time.
  void check() const {
    if (computed_checksum() == checksum_) return;
    fail("{}: the checksum does not match: the file was damaged after it was written; nothing was loaded", path_);
  }

  void load(const std::function<bool(const std::string&)>& wanted, Checkpoint& into) const {
    for (const auto& [name, entry] : file_.entries()) {
      if (!wanted(name)) {
        into.not_loaded.insert(name);
        continue;
      }
      into.tensors[name] = file_.tensor(name).clone();
      file_.release_pages(name);
    }
  }

 private:
  std::string computed_checksum() const;

  std::string path_;
  SafetensorsFile file_;
  std::map<std::string, std::string> fields_;
  std::string checksum_;
};

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

std::string StoredFile::computed_checksum() const {
  constexpr size_t kPart = size_t{16} << 20;
  const MappedFile file(path_);
  const std::string entry = fmt::format("\"{}\":\"{}\"", kChecksumField, checksum_);
  const size_t at = file.bytes().find(entry);
  if (at == std::string::npos || checksum_.size() != kNoChecksum.size()) fail("{}: its checksum is malformed", path_);
  const size_t digits = at + entry.size() - 1 - checksum_.size();
  FileChecksum checksum;
  checksum.add(file.bytes().substr(0, digits));
  checksum.add(kNoChecksum);
  for (size_t begin = digits + checksum_.size(); begin < file.size(); begin += kPart) {
    checksum.add(file.bytes().substr(begin, kPart));
    file.release_pages(begin, std::min(begin + kPart, file.size()));
  }
  return checksum.text();
}

CheckpointWriter::CheckpointWriter(const std::string& path, std::vector<TensorEntry> entries,
                                   std::map<std::string, std::string> fields, const std::vector<std::string>& shards,
                                   const std::string& name)
    : path_(path),
      shards_(shards),
      checksum_(std::make_unique<FileChecksum>()),
      file_(path + name, std::move(entries), with_shards(std::move(fields), shards)) {
  checksum_->add(file_.header());
}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::write(const std::string& name, const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
  checksum_->add(stored_bytes(plain));
  file_.write(name, plain);
}

std::string CheckpointWriter::end() {
  std::string checksum = checksum_->text();
  file_.replace_metadata(kChecksumField, checksum);
  return checksum;
}

void CheckpointWriter::commit() {
  end();
  file_.commit_as(path_);
  delete_other_shards(path_, shards_);
}

std::string CheckpointWriter::commit_shard() {
  std::string name = shard_name(path_, end());
  file_.commit_as((fs::path(path_).parent_path() / name).string());
  return name;
}

void save_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : checkpoint.tensors) entries.push_back(entry_of(name, tensor));
  CheckpointWriter writer(path, std::move(entries), checkpoint.fields);
  for (const auto& [name, tensor] : checkpoint.tensors) writer.write(name, tensor);
  writer.commit();
}

Checkpoint load_checkpoint(const std::string& path, const std::function<bool(const std::string& name)>& wanted) {
  std::vector<StoredFile> files{StoredFile(path)};
  files[0].check();
  Checkpoint checkpoint{{}, files[0].fields()};
  checkpoint.fields.erase(kShardsField);
  for (const std::string& name : files[0].shards()) {
    const std::string shard = path_within(fs::path(path).parent_path().string(), name);
    if (!fs::exists(shard)) fail("{}: its shard '{}' is missing: a checkpoint needs all its files", path, shard);
    files.emplace_back(shard);
    if (shard_name(path, files.back().checksum()) != name) fail("{}: it is another shard than its name says", shard);
    if (files.back().has(wanted)) files.back().check();
  }
  for (const StoredFile& file : files) file.load(wanted, checkpoint);
  return checkpoint;
}

Checkpoint load_checkpoint(const std::string& path, std::string_view prefix) {
  return load_checkpoint(path, [prefix](const std::string& name) { return name.starts_with(prefix); });
}

}  // namespace klab
