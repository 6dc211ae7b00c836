// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/reproduction.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

TEST(WritePage, JoinsTheLines) {
  const Folder folder;
  ReproduceOptions options;
  options.out = folder.path();
  write_page(options, {"# Title", "", "a line"});
  EXPECT_EQ(read_file(folder / "page.md"), "# Title\n\na line\n");
}

}  // namespace
}  // namespace klab
