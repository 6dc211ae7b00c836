// SPDX-License-Identifier: Apache-2.0
#include "core/io/weight_files.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "core/base/json.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kWhole = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// The index: a map from tensor name to shard name.
std::map<std::string, std::string> read_index(const std::string& path) {
  std::map<std::string, std::string> shard_of;
  const nlohmann::json json = parse_sorted_json(read_file(path), path);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    fail("{}: has no object 'weight_map'", path);
  }
  for (const auto& [name, shard] : json["weight_map"].items()) {
    const auto file = shard.is_string() ? shard.get<std::string>() : std::string();
    if (!is_file_name(file)) {
      fail("{}: the shard of '{}' must be the name of a file in the same folder, but is {}", path, name,
           shard.is_string() ? "'" + file + "'" : "no text");
    }
    shard_of[name] = file;
  }
  if (shard_of.empty()) fail("{}: names no tensor", path);
  return shard_of;
}

uint64_t bytes_of(const TensorEntry& entry) {
  uint64_t bytes = at::elementSize(entry.dtype);
  for (const int64_t size : entry.shape) bytes *= static_cast<uint64_t>(size);
  return bytes;
}

}  // namespace

WeightFiles::WeightFiles(const std::string& folder) : folder_(folder) {
  const fs::path whole = fs::path(folder) / kWhole, index = fs::path(folder) / kIndex;
  if (fs::exists(index) && fs::exists(whole)) {
    fail("'{}' holds both {} and {}: it is ambiguous which to load", folder, kWhole, kIndex);
  }
  if (fs::exists(whole)) {
    add(path_within(folder, kWhole), nullptr);
    return;
  }
  if (!fs::exists(index)) fail("'{}' holds no weights: neither {} nor {}", folder, kWhole, kIndex);
  const std::map<std::string, std::string> shard_of = read_index(path_within(folder, kIndex));
  std::set<std::string> shards;
  for (const auto& [name, shard] : shard_of) shards.insert(shard);
  for (const std::string& shard : shards) add(path_within(folder, shard), &shard_of);
  for (const auto& [name, shard] : shard_of) {
    if (entries_.count(name) == 0) fail("{}: places '{}' in {}, which lacks it", index.string(), name, shard);
  }
}

void WeightFiles::add(const std::string& path, const std::map<std::string, std::string>* index) {
  const auto file = std::make_shared<SafetensorsFile>(path);
  for (const auto& [name, entry] : file->entries()) {
    if (index != nullptr) {
      const auto found = index->find(name);
      if (found == index->end()) fail("{}: tensor '{}' is not in {}", path, name, kIndex);
      if (fs::path(path).filename() != found->second) {
        fail("{}: holds '{}', which {} places in {}", path, name, kIndex, found->second);
      }
    }
    entries_.emplace(name, entry);
    files_.emplace(name, file);
  }
}

const SafetensorsFile& WeightFiles::file_of(const std::string& name) const {
  const auto found = files_.find(name);
  if (found == files_.end()) fail("'{}' has no tensor '{}'", folder_, name);
  return *found->second;
}

uint64_t WeightFiles::bytes() const {
  uint64_t sum = 0;
  for (const auto& [name, entry] : entries_) sum += entry.end - entry.begin;
  return sum;
}

void write_weight_files(const std::string& folder, const std::vector<TensorEntry>& entries, uint64_t shard_bytes,
                        const std::function<at::Tensor(const std::string& name)>& tensor) {
  std::vector<std::vector<TensorEntry>> shards;
  uint64_t total = 0, held = 0;
  for (const TensorEntry& entry : entries) {
    const uint64_t bytes = bytes_of(entry);
    if (shards.empty() || (held > 0 && held + bytes > shard_bytes)) shards.emplace_back(), held = 0;
    shards.back().push_back(entry);
    held += bytes;
    total += bytes;
  }
  const auto name_of = [&](size_t i) {
    return shards.size() == 1 ? kWhole : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  };
  Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    SafetensorsWriter file((fs::path(folder) / name_of(i)).string(), shards[i], {{"format", "pt"}});
    for (const TensorEntry& entry : shards[i]) {
      file.write(entry.name, tensor(entry.name));
      index["weight_map"][entry.name] = name_of(i);
    }
    file.commit();
  }
  if (shards.size() > 1) write_file((fs::path(folder) / kIndex).string(), index.dump(2) + "\n");
}

}  // namespace klab
