// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/nccl_group.h"

#include <gtest/gtest.h>

#include <filesystem>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "core/base/support.h"

namespace klab {
namespace {

// Without a GPU a group cannot be made; that NCCL says so shows that the library is there and complete.
TEST(NcclGroup, SaysWhatIsMissing) {
  if (std::filesystem::exists("/dev/nvidia0")) GTEST_SKIP() << "this machine has a GPU";
  const auto store = c10::make_intrusive<c10d::HashStore>();
  const std::string error = message_of<std::exception>([&] { nccl_group(store, 0, 1, std::chrono::seconds(1)); });
  EXPECT_TRUE(contains(error, "this build has no NCCL") || contains(error, "no GPUs found")) << error;
}

}  // namespace
}  // namespace klab
