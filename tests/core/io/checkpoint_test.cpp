// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"

namespace klab {
namespace {

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/klab_checkpoint_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ + "/a.safetensors"; }

  static Checkpoint sample() {
    Checkpoint checkpoint;
    checkpoint.tensors = {{"weight", torch::arange(12, torch::kFloat).view({3, 4})},
                          {"half", torch::ones({5}, torch::kBFloat16)},
                          {"ids", torch::tensor({1, -2, 3}, torch::kLong)},
                          {"empty", torch::zeros({0, 7})},
                          {"scalar", torch::tensor(2.5)}};
    checkpoint.fields = {{"step", "12"}, {"odd \"name\"", "text with \n and é"}};
    return checkpoint;
  }

  std::string folder_;
};

TEST_F(CheckpointTest, ReadsBackTheSameBits) {
  const Checkpoint written = sample();
  save_checkpoint(path(), written);
  const Checkpoint read = load_checkpoint(path());
  EXPECT_EQ(read.fields, written.fields);
  ASSERT_EQ(read.tensors.size(), written.tensors.size());
  for (const auto& [name, tensor] : written.tensors) {
    EXPECT_EQ(read.tensor(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(read.tensor(name), tensor)) << name;
  }
}

TEST_F(CheckpointTest, StoresViewsAsWhatTheyShow) {
  const torch::Tensor matrix = torch::arange(6, torch::kFloat).view({2, 3});
  save_checkpoint(path(), {{{"transposed", matrix.t()}}, {}});
  EXPECT_TRUE(torch::equal(load_checkpoint(path()).tensor("transposed"), matrix.t()));
}

TEST_F(CheckpointTest, RefusesEveryFlippedBit) {
  save_checkpoint(path(), sample());
  const std::string good = read_file(path());
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    write_file(path(), bad);
    EXPECT_THROW(load_checkpoint(path()), Error) << "bit " << bit;
  }
}

TEST_F(CheckpointTest, RefusesEveryTruncation) {
  save_checkpoint(path(), sample());
  const std::string good = read_file(path());
  for (size_t size = 0; size < good.size(); ++size) {
    write_file(path(), good.substr(0, size));
    EXPECT_THROW(load_checkpoint(path()), Error) << size << " bytes";
  }
  write_file(path(), good + "x");
  EXPECT_THROW(load_checkpoint(path()), Error);
}

TEST_F(CheckpointTest, NamesWhatIsMissing) {
  const Checkpoint checkpoint = sample();
  try {
    checkpoint.tensor("bias");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("bias"), std::string::npos);
  }
  EXPECT_THROW(checkpoint.field("loss"), Error);
}

TEST_F(CheckpointTest, LeavesNoTemporaryFile) {
  save_checkpoint(path(), sample());
  save_checkpoint(path(), sample());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_THROW(save_checkpoint(folder_ + "/none/a.safetensors", sample()), Error);
}

}  // namespace
}  // namespace klab
