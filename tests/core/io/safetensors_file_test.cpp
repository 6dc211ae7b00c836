// SPDX-License-Identifier: Apache-2.0
// Tensors where they lie in their file, and files written piece by piece.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/support.h"
#include "core/io/safetensors.h"
#include "core/io/weight_memory.h"

namespace klab {
namespace {

using torch::Tensor;

TEST(SafetensorsFile, GivesWhatWasWrittenInPieces) {
  const Folder folder;
  const Tensor a = torch::randn({3, 4}), b = torch::arange(6).view({2, 3}), none = torch::empty({0, 7});
  SafetensorsWriter writer(folder / "f",
                           {{"a", torch::kFloat, {3, 4}}, {"none", torch::kFloat, {0, 7}}, {"b", torch::kLong, {2, 3}}},
                           {{"who", "me"}});
  writer.write("a", a.narrow(0, 0, 1));
  writer.write("a", a.narrow(0, 1, 2));
  writer.write("b", b);
  EXPECT_EQ(folder.entries(), 1u);  // a temporary name
  writer.commit();
  EXPECT_EQ(folder.entries(), 1u);
  const SafetensorsFile file(folder / "f");
  EXPECT_TRUE(torch::equal(file.tensor("a"), a));
  EXPECT_TRUE(torch::equal(file.tensor("b"), b));
  EXPECT_EQ(file.tensor("none").sizes(), none.sizes());
  EXPECT_EQ(file.metadata().at("who"), "me");
  EXPECT_CONTAINS(failure_of([&] { file.tensor("c"); }), "no tensor 'c'");
}

TEST(SafetensorsFile, TensorsOutliveTheFileObject) {
  const Folder folder;
  write_file(folder / "f", encode_safetensors({{{"a", torch::ones({1000})}}, {}}));
  Tensor a;
  {
    const SafetensorsFile file(folder / "f");
    a = file.tensor("a");
    file.release_pages("a");
  }
  EXPECT_EQ(a.sum().item<float>(), 1000);
}

// The file of these tensors with one blank more in its header, so that nothing is aligned.
void write_unaligned(const std::string& path, const Safetensors& content) {
  std::string bytes = encode_safetensors(content);
  const auto length = static_cast<uint64_t>(static_cast<unsigned char>(bytes[0]) + 1);
  bytes[0] = static_cast<char>(length);
  bytes.insert(8 + length - 1, " ");
  write_file(path, bytes);
}

TEST(SafetensorsFile, CopiesWhatTheFileDoesNotAlign) {
  const Folder folder;
  write_unaligned(folder / "f", {{{"a", torch::arange(5, torch::kFloat)}}, {}});
  EXPECT_TRUE(torch::equal(SafetensorsFile(folder / "f").tensor("a"), torch::arange(5, torch::kFloat)));
}

TEST(SafetensorsFile, CopiesNoMoreThanAPart) {
  const Folder folder;
  const Tensor all = torch::arange(600, torch::kFloat).view({100, 2, 3});
  write_file(folder / "aligned", encode_safetensors({{{"a", all}}, {}}));
  write_unaligned(folder / "unaligned", {{{"a", all}}, {}});
  const SafetensorsFile aligned(folder / "aligned"), unaligned(folder / "unaligned");
  for (const SafetensorsFile* file : {&aligned, &unaligned}) {
    for (int64_t item = 0; item < 100; ++item) {
      const Tensor part = file->part("a", 6 * item, {2, 3});
      EXPECT_TRUE(torch::equal(part, all[item]));
      EXPECT_EQ(part.storage().nbytes(), 24u);
    }
    EXPECT_CONTAINS(failure_of([&] { file->part("a", 597, {2, 2}); }), "'a' has 600 numbers, but 4 from number 597");
    EXPECT_CONTAINS(failure_of([&] { file->part("a", -1, {1}); }), "from number -1");
    EXPECT_CONTAINS(failure_of([&] { file->part("a", 0, {int64_t{1} << 62, 8}); }), "overflows");
  }
}

TEST(SafetensorsWriter, KeepsNothingThatIsNotComplete) {
  const Folder folder;
  {
    SafetensorsWriter writer(folder / "f", {{"a", torch::kFloat, {2}}, {"b", torch::kFloat, {2}}});
    writer.write("a", torch::ones({2}));
    EXPECT_CONTAINS(failure_of([&] { writer.commit(); }), "'b' is not complete");
    EXPECT_CONTAINS(failure_of([&] { writer.write("a", torch::ones({1})); }), "too much");
    EXPECT_CONTAINS(failure_of([&] { writer.write("b", torch::ones({2}, torch::kHalf)); }), "another dtype");
    EXPECT_CONTAINS(failure_of([&] { writer.write("c", torch::ones({2})); }), "out of turn");
  }
  EXPECT_EQ(folder.entries(), 0u);
  EXPECT_CONTAINS(failure_of([&] {
                    SafetensorsWriter writer(folder / "f", {{"a", torch::kFloat, {2}}, {"a", torch::kFloat, {2}}});
                  }),
                  "twice");
}

TEST(WeightMemory, HandsOutTensorsThatDoNotOverlap) {
  std::vector<Tensor> all;
  {
    WeightMemory memory;
    for (int i = 0; i < 50; ++i)
      all.push_back(memory.empty({i % 7, 1000 * i}, i % 2 == 0 ? torch::kFloat : torch::kHalf).fill_(i));
    all.push_back(memory.empty({20, 1 << 20}, torch::kFloat).fill_(50));  // larger than a piece
    all.push_back(memory.empty({3}, torch::kFloat).fill_(51));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE((all[i] == static_cast<int64_t>(i)).all().item<bool>()) << i;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(all[i].data_ptr()) % 64, 0u);
  }
}

}  // namespace
}  // namespace klab
