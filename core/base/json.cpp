// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include <set>
#include <vector>

#include "core/base/error.h"

namespace klab {
namespace {

template <class Json>
Json parsed_json(std::string_view text, const std::string& origin) {
  constexpr int kDeepest = 64;
  std::vector<std::set<std::string>> open;
  const auto check = [&](int depth, typename Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) fail("{}: nested more than {} deep", origin, kDeepest);
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.template get<std::string>()).second) {
      fail("{}: names '{}' twice", origin, parsed.template get<std::string>());
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const typename Json::exception& error) {
    fail("{}: not valid JSON: {}", origin, error.what());
  }
}

}  // namespace

nlohmann::ordered_json parse_json(std::string_view text, const std::string& origin) {
  return parsed_json<nlohmann::ordered_json>(text, origin);
}

nlohmann::json parse_sorted_json(std::string_view text, const std::string& origin) {
  return parsed_json<nlohmann::json>(text, origin);
}

}  // namespace klab
