// SPDX-License-Identifier: Apache-2.0
#include "core/train/shared_checkpoint.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace klab {
namespace {

using at::Tensor;
using Json = nlohmann::ordered_json;

// A tensor, the ranks that have it, and the one that stores it.
struct SharedTensor {
  TensorEntry entry;
  std::vector<size_t> ranks{};
  size_t stores = 0;

  int64_t bytes() const {
    return c10::multiply_integers(entry.shape) * static_cast<int64_t>(c10::elementSize(entry.dtype));
  }
};

// The tensors of all ranks in the order of their names, each stored by the first rank that has it.
std::vector<SharedTensor> all_tensors(RankGroup& ranks, const std::map<std::string, Tensor>& own) {
  Json described = Json::array();
  for (const auto& [name, tensor] : own) {
    described.push_back({name, static_cast<int>(tensor.scalar_type()), tensor.sizes().vec()});
  }
  const std::vector<std::string> texts = ranks.gather_text(described.dump());
  std::map<std::string, SharedTensor> all;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    for (const Json& one : Json::parse(texts[rank])) {
      const auto name = one[0].get<std::string>();
      const auto dtype = static_cast<at::ScalarType>(one[1].get<int>());
      const auto at = all.try_emplace(name, SharedTensor{{name, dtype, one[2].get<std::vector<int64_t>>()}}).first;
      if (at->second.ranks.empty()) at->second.stores = rank;
      at->second.ranks.push_back(rank);
    }
  }
  std::vector<SharedTensor> tensors;
  for (auto& [name, tensor] : all) tensors.push_back(std::move(tensor));
  return tensors;
}

// Each tensor, largest first, to the rank that stores least of those that have it.
void balance(std::vector<SharedTensor>& tensors, int64_t ranks) {
  std::vector<SharedTensor*> by_size;
  for (SharedTensor& one : tensors) by_size.push_back(&one);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const SharedTensor* a, const SharedTensor* b) { return a->bytes() > b->bytes(); });
  std::vector<int64_t> stored(static_cast<size_t>(ranks), 0);
  for (SharedTensor* one : by_size) {
    one->stores = *std::min_element(one->ranks.begin(), one->ranks.end(),
                                    [&](size_t a, size_t b) { return stored[a] < stored[b]; });
    stored[one->stores] += one->bytes();
  }
}

// Tensors [begin, end) from the ranks that store them to rank 0, in order, its own as they are; nothing on the others.
std::vector<Tensor> received(RankGroup& ranks, const std::vector<SharedTensor>& tensors, size_t begin, size_t end,
                             const std::map<std::string, Tensor>& own) {
  const auto rank = static_cast<size_t>(ranks.rank()), size = static_cast<size_t>(ranks.size());
  std::vector<Tensor> parts{at::empty({0}, at::kByte)};
  std::vector<int64_t> to_each(size, 0), from_each(size, 0);
  for (size_t i = begin; i < end; ++i) {
    const SharedTensor& one = tensors[i];
    if (one.stores == 0) continue;
    from_each[one.stores] += one.bytes();
    if (one.stores == rank) parts.push_back(own.at(one.entry.name).cpu().contiguous().reshape({-1}).view(at::kByte));
  }
  const bool any = std::any_of(from_each.begin(), from_each.end(), [](int64_t bytes) { return bytes > 0; });
  to_each[0] = from_each[rank];
  if (!ranks.first()) std::fill(from_each.begin(), from_each.end(), 0);
  const Tensor bytes = any ? ranks.exchange(at::cat(parts), to_each, from_each) : parts[0];
  if (!ranks.first()) return {};

  std::vector<int64_t> next(size, 0);  // where the next tensor of each rank begins
  for (size_t i = 0; i + 1 < size; ++i) next[i + 1] = next[i] + from_each[i];
  std::vector<Tensor> all;
  for (size_t i = begin; i < end; ++i) {
    const SharedTensor& one = tensors[i];
    if (one.stores == 0) {
      all.push_back(own.at(one.entry.name));
      continue;
    }
    const Tensor part = bytes.narrow(0, std::exchange(next[one.stores], next[one.stores] + one.bytes()), one.bytes());
    all.push_back(part.clone().view(one.entry.dtype).view(one.entry.shape));  // at an address fit for its dtype
  }
  return all;
}

void save_whole(RankGroup& ranks, const std::string& path, const Checkpoint& own) {
  constexpr int64_t kBytesAtOnce = int64_t{64} << 20;
  const std::vector<SharedTensor> tensors = all_tensors(ranks, own.tensors);
  std::unique_ptr<CheckpointWriter> writer;
  if (ranks.first()) {
    std::vector<TensorEntry> entries;
    for (const SharedTensor& one : tensors) entries.push_back(one.entry);
    writer = std::make_unique<CheckpointWriter>(path, std::move(entries), own.fields);
  }
  for (size_t begin = 0, end = 0; begin < tensors.size(); begin = end) {
    for (int64_t bytes = 0; end < tensors.size() && bytes < kBytesAtOnce; ++end) bytes += tensors[end].bytes();
    const std::vector<Tensor> some = received(ranks, tensors, begin, end, own.tensors);
    for (size_t i = 0; i < some.size(); ++i) writer->write(tensors[begin + i].entry.name, some[i]);
  }
  if (writer) writer->commit();
}

void save_shards(RankGroup& ranks, const std::string& path, const Checkpoint& own) {
  std::vector<SharedTensor> tensors = all_tensors(ranks, own.tensors);
  balance(tensors, ranks.size());
  std::vector<TensorEntry> entries;
  for (const SharedTensor& one : tensors) {
    if (one.stores == static_cast<size_t>(ranks.rank())) entries.push_back(one.entry);
  }
  CheckpointWriter writer(path, entries, {}, {}, fmt::format(".{}", ranks.rank()));
  for (const TensorEntry& one : entries) writer.write(one.name, own.tensors.at(one.name));
  const std::vector<std::string> shards = ranks.gather_text(writer.commit_shard());
  if (!ranks.first()) return;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  for (size_t i = 0; i < shards.size(); ++i) {
    if (std::filesystem::exists(folder / shards[i])) continue;
    fail("rank {} wrote '{}', which rank 0 does not find in '{}': checkpoints in shards need a folder for all ranks", i,
         shards[i], folder.string());
  }
  CheckpointWriter(path, {}, own.fields, shards).commit();
}

}  // namespace

void save_checkpoint(RankGroup& ranks, const std::string& path, const Checkpoint& own, bool sharded) {
  if (ranks.alone()) return save_checkpoint(path, own);
  const c10::AutoGradMode no_grad(false);
  (sharded ? save_shards : save_whole)(ranks, path, own);
  ranks.barrier();  // others may read it
}

}  // namespace klab
