// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "fuzz/target.h"
#include "fuzz/tokenizer_files.h"

namespace klab::fuzz {

// A tiktoken.model (tiktoken_file()), a zero byte, and perhaps its tokenizer_config.json. Any file that is accepted
// gives tokens that stand for the text.
void tiktoken(std::string_view input) {
  const auto [ranks, names] = halves(input, std::string_view("\0", 1));
  const std::string folder = scratch_folder() + "/tiktoken";
  std::filesystem::create_directories(folder);
  std::filesystem::remove(folder + "/tokenizer_config.json");
  scratch_file("tiktoken/tiktoken.model", tiktoken_file(ranks));
  if (!names.empty()) scratch_file("tiktoken/tokenizer_config.json", names);
  expect_round_trip(Tokenizer::load(folder), kSampleText);
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(tiktoken)
