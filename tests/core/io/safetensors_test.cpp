// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/error.h"

namespace klab {
namespace {

// A file with this header in front of `data` bytes of zeros.
std::string file(const std::string& header, size_t data) {
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return length + header + std::string(data, '\0');
}

// The message with which `bytes` are refused; "" when they are not.
std::string refusal(const std::string& bytes) {
  try {
    decode_safetensors(bytes, "f");
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Safetensors, ReadsAPlainFile) {
  const Safetensors content =
      decode_safetensors(file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "f");
  EXPECT_TRUE(torch::equal(content.tensors.at("a"), torch::zeros({2})));
}

TEST(Safetensors, RefusesHostileFilesByName) {
  const auto expect = [](const std::string& bytes, const std::string& word) {
    EXPECT_NE(refusal(bytes).find(word), std::string::npos) << refusal(bytes);
  };
  expect("", "too few");
  expect(std::string(8, '\xff') + "{}", "claims");
  expect(file("[]", 0), "not a JSON object");
  expect(file("{", 0), "not valid JSON");
  expect(file(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8), "F31");
  expect(file(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), "'a'");
  expect(file(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "not a count");
  expect(file(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8), "overflows");
  expect(file(R"({"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}})", 0), "overflows");
  expect(file(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}})", 0), "overflows");
  expect(file(R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})", 8), "not a count");
  expect(file(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8), "shape must be a list");
  std::string ones = "1";
  for (int i = 1; i < 65; ++i) ones += ",1";
  expect(file(R"({"a":{"dtype":"F32","shape":[)" + ones + R"(],"data_offsets":[0,4]}})", 4), "65 dimensions");
  expect(file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4), "truncated");
  expect(file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "'a'");
  expect(file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8), "two counts");
  expect(file(R"({"a":{"dtype":"F32","shape":[2]}})", 8), "'a'");
  expect(
      file(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          12),
      "overlap");
  expect(file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), "hole");
  expect(file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 12), "4 bytes after the last tensor");
  expect(
      file(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          8),
      "twice");
  expect(file(R"({"__metadata__":{"x":1}})", 0), "metadata");
  expect(file(R"({"__metadata__":"x"})", 0), "__metadata__ must be");
}

TEST(Safetensors, RefusesADtypeThatTheFormatHasNot) {
  EXPECT_THROW(encode_safetensors({{{"c", torch::zeros({1}, torch::kComplexFloat)}}, {}}), Error);
}

}  // namespace
}  // namespace klab
