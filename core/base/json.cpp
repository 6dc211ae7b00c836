// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include <set>
#include <type_traits>
#include <vector>

#include "core/base/error.h"

namespace klab {
namespace {

constexpr size_t kLongestJson = size_t{256} << 20;
// Finding a member of an ordered object takes a step for every other member.
constexpr size_t kMostOrdered = 20'000;

template <class Json>
Json parsed_json(std::string_view text, const std::string& origin) {
  constexpr int kDeepest = 64;
  constexpr size_t kMostMembers = std::is_same_v<Json, nlohmann::ordered_json> ? kMostOrdered : kLongestJson;
  if (text.size() > kLongestJson) fail("{}: {} bytes of JSON; at most {} are read", origin, text.size(), kLongestJson);
  std::vector<std::set<std::string>> open;
  const auto check = [&](int depth, typename Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) fail("{}: nested more than {} deep", origin, kDeepest);
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.template get<std::string>()).second) {
      fail("{}: names '{}' twice", origin, parsed.template get<std::string>());
    }
    if (!open.empty() && open.back().size() > kMostMembers) {
      fail("{}: an object with more than {} members", origin, kMostMembers);
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
