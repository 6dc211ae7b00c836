// SPDX-License-Identifier: Apache-2.0
#include "tasks/json_lines.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/public/tokenizer.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

struct LineReader {
  std::string where;
  const PairFields& fields;

  [[noreturn]] void refuse_line(const std::string& wrong) const {
    const Json right = {{fields.prompt, "2+2="}, {fields.answer, "4"}};
    refuse("{}: {}. A line must be an object such as {}", where, wrong, right.dump());
  }

  Json parse(std::string_view line) const {
    try {
      return Json::parse(line);
    } catch (const Json::parse_error& error) {
      if (repaired_utf8(line) != line) refuse_line("the line is not valid UTF-8");
      refuse_line(fmt::format("the line is not valid JSON, from byte {} on", error.byte));
    } catch (const Json::out_of_range&) {
      refuse_line("a number in the line is too large");
    }
  }

  // `key`: the config key that names the field.
  std::string text_of_field(const Json& object, const std::string& field, const std::string& key) const {
    const auto found = object.find(field);
    if (found == object.end()) {
      std::vector<std::string> names;
      for (const auto& item : object.items()) names.push_back(item.key());
      refuse_line(fmt::format("the object has no field '{}' ({}), only: {}", field, key, join(names)));
    }
    if (!found->is_string()) {
      refuse_line(fmt::format("the field '{}' is of type {}, not a string", field, found->type_name()));
    }
    if (found->get_ref<const std::string&>().empty()) refuse_line(fmt::format("the field '{}' is empty", field));
    return found->get<std::string>();
  }

  TextPair read(std::string_view line, size_t end) const {
    const Json object = parse(line);
    if (!object.is_object()) refuse_line(fmt::format("the line is of type {}, not an object", object.type_name()));
    return {text_of_field(object, fields.prompt, "task.jsonl.prompt"),
            text_of_field(object, fields.answer, "task.jsonl.answer"), where, end};
  }
};

}  // namespace

void for_each_pair(const std::string& file, std::string_view text, const PairFields& fields,
                   const std::function<void(const TextPair&)>& use) {
  int64_t number = 0;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    ++number;
    if (!trimmed(line).empty()) use(LineReader{fmt::format("{}, line {}", file, number), fields}.read(line, end));
  }
}

}  // namespace klab
