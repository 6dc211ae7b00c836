// SPDX-License-Identifier: Apache-2.0
// Tokenizes the texts of a file, so that the Python tests can compare the tokenizer with the packages tiktoken and
// tokenizers:
//     run_tokenizer FOLDER TEXTS plain|special
// FOLDER contains tiktoken.model or tokenizer.json; TEXTS is a sequence of texts, each as its length in decimal, a
// newline, its bytes. Prints one line per text: its ids, and 1 if they decode to the text (with invalid UTF-8
// repaired), else 0.
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/public/tokenizer.h"

int main(int count, char** arguments) {
  try {
    if (count != 4) klab::refuse("usage: run_tokenizer FOLDER TEXTS plain|special");
    const klab::Tokenizer tokenizer = klab::Tokenizer::load(arguments[1]);
    const std::string content = klab::read_file(arguments[2]);
    const bool special = std::string(arguments[3]) == "special";
    for (size_t at = 0; at < content.size();) {
      const size_t end = content.find('\n', at), length = std::stoull(content.substr(at, end - at));
      const std::string text = content.substr(end + 1, length);
      at = end + 1 + length;
      const std::vector<int64_t> ids = tokenizer.encode(text, special);
      for (const int64_t id : ids) fmt::print("{} ", id);
      fmt::print("{}\n", tokenizer.decode(ids) == klab::repaired_utf8(text) ? 1 : 0);
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "run_tokenizer: {}\n", error.what());
    return 1;
  }
}
