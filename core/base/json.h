// JSON from files that nobody here wrote.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace klab {

/// Parses a whole text. Throws Error that names `origin`: not valid, an object that names a key twice (the parser alone
/// would keep the last one in silence), or nested more than 64 deep.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& origin);

/// A record as an object and back, for types with a `static each_field(self, visit)` that calls `visit(name,
/// self.member)` for every member: one list serves both ways.
template <class Record>
nlohmann::ordered_json to_object(const Record& record) {
  nlohmann::ordered_json object;
  Record::each_field(record, [&](const char* name, const auto& member) { object[name] = member; });
  return object;
}

/// Throws nlohmann::json::exception for a member that is missing or of another type.
template <class Record>
void from_object(const nlohmann::ordered_json& object, Record& record) {
  Record::each_field(record, [&](const char* name, auto& member) { object.at(name).get_to(member); });
}

}  // namespace klab
