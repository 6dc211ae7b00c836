// SPDX-License-Identifier: Apache-2.0
// Prompt-answer pairs in JSON Lines files.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace klab {

/// The fields of the objects that hold the prompt and the answer.
struct PairFields {
  std::string prompt, answer;
};

struct TextPair {
  std::string prompt, answer;  ///< UTF-8; neither is empty
  std::string where;           ///< "data/pairs.jsonl, line 3", for messages
  size_t end;                  ///< bytes of the file up to the end of the line
};

/// Calls `use` with the pair of every line of `text`, the content of `file`; lines end with LF or CR LF, and blank ones
/// are skipped. Throws UsageError, with file and line, for a line that is not a JSON object with both fields as
/// strings that are not empty.
void for_each_pair(const std::string& file, std::string_view text, const PairFields& fields,
                   const std::function<void(const TextPair&)>& use);

}  // namespace klab
