// SPDX-License-Identifier: Apache-2.0
// Runs every target on its corpus and on the inputs of earlier findings, without libFuzzer.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "fuzz/target.h"

namespace klab::fuzz {
namespace {

namespace fs = std::filesystem;

struct Named {
  const char* name;
  Target target;
};

constexpr Named kTargets[] = {{"answers", answers},
                              {"checkpoint", checkpoint},
                              {"command_line", command_line},
                              {"command_words", command_words},
                              {"config", config},
                              {"config_flags", config_flags},
                              {"csv", csv},
                              {"json", json},
                              {"json_lines", json_lines},
                              {"metrics", metrics},
                              {"plan", plan},
                              {"public_config", public_config},
                              {"record", record},
                              {"safetensors", safetensors},
                              {"sweep", sweep},
                              {"tiktoken", tiktoken},
                              {"tokenizer_json", tokenizer_json},
                              {"tokenizer_text", tokenizer_text},
                              {"weight_index", weight_index}};

// The inputs of a target, in order.
std::vector<std::string> inputs_of(const std::string& target) {
  std::vector<std::string> files;
  for (const std::string folder : {"corpus", "found"}) {
    const fs::path path = fs::path(KLAB_SOURCE) / "tests/fuzz" / folder / target;
    if (!fs::exists(path)) continue;
    for (const auto& file : fs::directory_iterator(path)) files.push_back(file.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

TEST(Fuzz, EveryTargetAcceptsOrRefusesItsInputs) {
  for (const auto& [name, target] : kTargets) {
    const std::vector<std::string> files = inputs_of(name);
    EXPECT_FALSE(files.empty()) << name << " has no corpus";
    for (const std::string& file : files) EXPECT_EQ(finding(target, read_file(file)), "") << file;
    EXPECT_EQ(finding(target, ""), "") << name << " on an empty input";
  }
}

// The corpus must lead beyond the checks: at least one input of each target is accepted.
TEST(Fuzz, EveryTargetAcceptsAnInputOfItsCorpus) {
  for (const auto& [name, target] : kTargets) {
    bool accepted = false;
    std::string last;
    for (const std::string& file : inputs_of(name)) {
      try {
        target(read_file(file));
        accepted = true;
      } catch (const std::exception& error) {
        last = error.what();
      }
    }
    EXPECT_TRUE(accepted) << name << ": " << last;
  }
}

TEST(Fuzz, EveryCorpusHasItsTarget) {
  for (const std::string folder : {"corpus", "found", "dictionaries"}) {
    const fs::path path = fs::path(KLAB_SOURCE) / "tests/fuzz" / folder;
    if (!fs::exists(path)) continue;
    for (const auto& entry : fs::directory_iterator(path)) {
      const auto known = [&](const Named& one) { return entry.path().stem() == one.name; };
      EXPECT_TRUE(std::any_of(std::begin(kTargets), std::end(kTargets), known)) << entry.path();
    }
  }
}

void fails_otherwise(std::string_view) { throw std::runtime_error("another error"); }
void breaks(std::string_view) { expect(false, "what must hold"); }

TEST(Fuzz, OnlyErrorsOfTheLibraryAreNoFindings) {
  EXPECT_EQ(finding([](std::string_view) {}, ""), "");
  EXPECT_EQ(finding([](std::string_view) { throw Error("a message"); }, ""), "");
  EXPECT_EQ(finding([](std::string_view) { throw Error(""); }, ""), "an error without a message");
  EXPECT_NE(finding(fails_otherwise, "").find("another error"), std::string::npos);
  EXPECT_EQ(finding(breaks, ""), "what must hold");
}

}  // namespace
}  // namespace klab::fuzz
