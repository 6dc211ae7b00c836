// SPDX-License-Identifier: Apache-2.0
#include "core/rl/answer_log.h"

#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/text.h"

namespace klab {
namespace {

LoggedAnswer answer_of(const std::string& line, const std::string& where) {
  try {
    return value_from<LoggedAnswer>(parse_json(line, where));
  } catch (const nlohmann::json::exception& error) {
    fail("{}: {}", where, error.what());
  }
}

std::string line_of(const LoggedAnswer& answer) {
  return to_object(answer).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

LoggedAnswer logged(int64_t step, const std::string& split, const Answer& answer,
                    const std::function<std::string(int64_t)>& token_name) {
  const auto words = [&](const std::vector<int64_t>& tokens) {
    std::vector<std::string> names;
    for (const int64_t token : tokens) names.push_back(token_name(token));
    return join(names, " ");
  };
  return {step,         split, words(answer.prompt->tokens), words(answer.prompt->reference), words(answer.tokens),
          answer.reward};
}

std::vector<LoggedAnswer> read_answers(const std::string& path) {
  std::vector<LoggedAnswer> answers;
  if (!std::filesystem::exists(path)) return answers;
  const std::string text = read_file(path);
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    const std::string where = fmt::format("{}, line {}", path, answers.size() + 1);
    answers.push_back(answer_of(text.substr(begin, end - begin), where));
    begin = end + 1;
  }
  return answers;
}

void append_answers(const std::string& path, const std::vector<LoggedAnswer>& answers) {
  std::string text;
  for (const LoggedAnswer& answer : answers) text += line_of(answer);
  AppendedFile file(path);
  file.write(text);
  file.sync();  // a checkpoint that is written later may rely on it
}

void keep_answers_until(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return;
  drop_last_lines(path, 0, [&](const std::string& line) { return answer_of(line, path).step > step; });
}

}  // namespace klab
