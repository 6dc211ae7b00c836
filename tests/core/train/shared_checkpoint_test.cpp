// SPDX-License-Identifier: Apache-2.0
#include "core/train/shared_checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/support.h"
#include "support/ranks.h"

namespace klab {
namespace {

using at::Tensor;
using Ranks = std::shared_ptr<RankGroup>;
namespace fs = std::filesystem;

class SharedCheckpoint : public testing::TestWithParam<int64_t> {
 protected:
  SharedCheckpoint() { fs::create_directories(folder_ / "checkpoint"); }

  std::string path() const { return folder_ / "checkpoint/last.safetensors"; }

  // One tensor that all ranks have, one of each, and some of rank 1 alone.
  static Checkpoint of_rank(int64_t rank) {
    Checkpoint own;
    own.fields["step"] = std::to_string(rank);
    own.tensors["shared"] = at::arange(1000, at::kFloat).t();
    own.tensors["of" + std::to_string(rank)] = at::full({3}, rank, at::kLong);
    if (rank != 1) return own;
    own.tensors["odd"] = at::ones({1}, at::kByte);  // what follows it is not aligned
    own.tensors["precise"] = at::full({2, 2}, 0.1, at::kDouble);
    own.tensors["empty"] = at::zeros({0, 7});
    return own;
  }

  void save(int64_t ranks, bool sharded) const {
    on_rank_threads(ranks, [&](const Ranks& group) {
      save_checkpoint(*group, path(), of_rank(group->rank()), sharded);
      EXPECT_TRUE(fs::exists(path())) << "a rank went on before the checkpoint was complete";
    });
  }

  void expect_all(int64_t ranks) const {
    const Checkpoint all = load_checkpoint(path());
    EXPECT_EQ(all.field("step"), "0");
    EXPECT_EQ(all.fields.size(), 1);
    EXPECT_EQ(all.tensors.size(), static_cast<size_t>(4 + ranks));
    for (int64_t rank = 0; rank < ranks; ++rank) {
      for (const auto& [name, tensor] : of_rank(rank).tensors) EXPECT_TRUE(at::equal(all.tensor(name), tensor)) << name;
    }
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_ / "checkpoint")) names.push_back(entry.path().string());
    return names;
  }

  // A file of the checkpoint that is not at path().
  std::string a_shard() const {
    for (const std::string& file : files()) {
      if (file != path()) return file;
    }
    return "";
  }

  Folder folder_;
};

TEST_P(SharedCheckpoint, IsOneFileWithTheTensorsOfAllRanks) {
  save(GetParam(), false);
  expect_all(GetParam());
  EXPECT_EQ(files().size(), 1);
}

TEST_P(SharedCheckpoint, HasAFileOfEachRankAndOneWithTheFields) {
  save(GetParam(), true);
  expect_all(GetParam());
  EXPECT_EQ(files().size(), static_cast<size_t>(GetParam() + 1));
}

TEST_P(SharedCheckpoint, ReplacesOneOfTheOtherKind) {
  for (const bool sharded : {true, false, true}) {
    save(GetParam(), sharded);
    write_file(folder_ / "checkpoint/last-0123.safetensors", "of somebody else");
    expect_all(GetParam());
    EXPECT_EQ(files().size(), static_cast<size_t>(sharded ? GetParam() + 2 : 2));
  }
}

TEST_P(SharedCheckpoint, ReadsOnlyShardsWithWantedTensors) {
  save(GetParam(), true);
  const auto wanted = [](const std::string& name) { return name == "precise"; };
  const Checkpoint some = load_checkpoint(path(), wanted);
  EXPECT_EQ(some.tensors.size(), 1);
  EXPECT_EQ(some.not_loaded.size(), static_cast<size_t>(3 + GetParam()));
  EXPECT_TRUE(some.not_loaded.contains("shared"));
}

TEST_P(SharedCheckpoint, RefusesDamagedMissingAndExchangedShards) {
  save(GetParam(), true);
  const std::string shard = a_shard(), good = read_file(shard), entry = read_file(path());
  std::string bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  const auto refusal = [&] { return message_of<Error>([&] { load_checkpoint(path()); }); };
  write_file(shard, bad);
  EXPECT_EQ(refusal(),
            shard + ": the checksum does not match: the file was damaged after it was written; nothing was loaded");
  save_checkpoint(shard, {{{"other", at::ones({1})}}, {}});
  EXPECT_EQ(refusal(), shard + ": it is another shard than its name says");
  fs::remove(shard);
  EXPECT_EQ(refusal(), path() + ": its shard '" + shard + "' is missing: a checkpoint needs all its files");

  write_file(shard, good);
  expect_all(GetParam());
  save_checkpoint(folder_ / "outside.safetensors", of_rank(1));
  CheckpointWriter(path(), {}, {}, {"../outside.safetensors"}).commit();
  EXPECT_EQ(refusal(), path() + ": '../outside.safetensors' cannot be the name of a shard of it");
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedCheckpoint, testing::Values(2, 3));

TEST(SharedCheckpointBalance, SpreadsTensorsThatAllRanksHave) {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  on_rank_threads(3, [&](const Ranks& ranks) {
    Checkpoint own;
    for (int64_t i = 0; i < 30; ++i) own.tensors["t" + std::to_string(i)] = at::zeros({1000 + i});
    save_checkpoint(*ranks, path, own, true);
  });
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path() == path) continue;
    EXPECT_NEAR(static_cast<double>(entry.file_size()), 4 * 10 * 1015, 2000) << entry.path();
  }
}

TEST(SharedCheckpointMemory, OfRankZeroDoesNotGrowWithTheOthers) {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  constexpr int64_t kNumbers = int64_t{5} << 20;  // 20 MB, ten of them
  on_rank_threads(2, [&](const Ranks& ranks) {
    Checkpoint own;
    const Tensor numbers = at::arange(kNumbers, at::kFloat);
    for (int64_t i = 0; ranks->rank() == 1 && i < 10; ++i) own.tensors["t" + std::to_string(i)] = numbers;
    save_checkpoint(*ranks, path, own, false);
  });
  const Checkpoint all = load_checkpoint(path);
  EXPECT_EQ(all.tensors.size(), 10);  // in several exchanges
  EXPECT_TRUE(at::equal(all.tensor("t7"), at::arange(kNumbers, at::kFloat)));
}

}  // namespace
}  // namespace klab
