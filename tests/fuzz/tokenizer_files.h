// SPDX-License-Identifier: Apache-2.0
// Short forms of tokenizer files, which need a token for every byte.
#pragma once

#include <string>
#include <string_view>

#include "core/public/tokenizer.h"

namespace klab::fuzz {

/// The content of a tiktoken.model in which a line "@BYTES@" stands for the lines of the 256 single bytes, ids 0..255.
std::string tiktoken_file(std::string_view text);

/// The content of a tokenizer.json in which "@BYTES@" stands for the members of the 256 single bytes, ids 0..255.
std::string tokenizer_json_file(std::string_view text);

/// A valid text's tokens must stand for the text, with and without special tokens.
void expect_round_trip(const Tokenizer& tokenizer, std::string_view text);

/// A text with words, digits, spaces, other scripts, and the beginnings of special tokens.
extern const std::string_view kSampleText;

}  // namespace klab::fuzz
