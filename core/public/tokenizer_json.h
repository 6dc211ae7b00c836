// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, the file format of the Python package tokenizers, for byte-level BPE.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/public/split_pattern.h"

namespace klab {

/// A token that is found in a text before the text is split.
struct AddedToken {
  std::string content;
  int64_t id = 0;
  bool special = true;      ///< special tokens are text where special tokens are not wanted
  bool normalized = false;  ///< looked for in the normalised text, after those that are not
};

/// A step of splitting: a space before texts that do not begin with one, then a pattern, if any.
struct SplitStep {
  bool prefix_space = false;
  std::vector<SplitPattern> pattern;  ///< at most one
};

/// Two neighbours, by id, that become one token.
struct TokenMerge {
  int64_t left = 0, right = 0, merged = 0;
};

struct TokenizerJson {
  std::map<std::string, int64_t> tokens;  ///< by their bytes
  /// Tokens of the vocabulary with characters that stand for no byte.
  std::vector<std::pair<int64_t, std::string>> unwritable;
  std::vector<TokenMerge> merges;  ///< first: merged first
  std::vector<AddedToken> added;
  std::vector<SplitStep> steps;
  bool nfc = false;
  bool whole_first = false;  ///< `ignore_merges`: a piece that is a token is not merged from its bytes
};

/// Throws Error with the file and the field for whatever klab does not know, and unless ids are 0, 1, ... without gaps.
/// `truncation` and `padding` are ignored. `post_processor` is checked but not used: no token is put around a text.
TokenizerJson read_tokenizer_json(const std::string& path);

}  // namespace klab
