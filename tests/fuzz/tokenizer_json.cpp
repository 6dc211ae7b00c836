// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "fuzz/target.h"
#include "fuzz/tokenizer_files.h"

namespace klab::fuzz {

// A tokenizer.json (tokenizer_json_file()). A text's tokens can be decoded; they stand for another text where the file
// normalizes texts or adds spaces.
void tokenizer_json(std::string_view input) {
  const std::string folder = scratch_folder() + "/tokenizer_json";
  std::filesystem::create_directories(folder);
  scratch_file("tokenizer_json/tokenizer.json", tokenizer_json_file(input));
  const Tokenizer tokenizer = Tokenizer::load(folder);
  for (const int64_t id : tokenizer.encode(kSampleText)) expect(id < tokenizer.size(), "a token is beyond the largest");
  for (const bool special : {true, false}) tokenizer.decode(tokenizer.encode(kSampleText, special));
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(tokenizer_json)
