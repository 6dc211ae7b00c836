// SPDX-License-Identifier: Apache-2.0
// JSON from untrusted files, and conversion of records to JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace klab {

/// Parses a whole text. Throws Error with `origin` for invalid JSON, a duplicate key in an object (which the parser
/// would silently resolve to the last one), nesting deeper than 64, more than 256 MiB, and more than 20,000 members in
/// an object.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& origin);

/// The same for files with objects of any number of members: they are sorted, and found in logarithmic time.
nlohmann::json parse_sorted_json(std::string_view text, const std::string& origin);

/// Conversion of a record to an object and back, for types with a `static each_field(self, visit)` that calls
/// `visit(name, self.member)` for every member.
template <class Record>
nlohmann::ordered_json to_object(const Record& record) {
  nlohmann::ordered_json object;
  Record::each_field(record, [&](const char* name, const auto& member) { object[name] = member; });
  return object;
}

/// Throws nlohmann::json::exception for a missing member or a wrong type.
template <class Record>
void from_object(const nlohmann::ordered_json& object, Record& record) {
  Record::each_field(record, [&](const char* name, auto& member) { object.at(name).get_to(member); });
}

/// A value of any type that JSON has, or of a type with each_field(). Throws nlohmann::json::exception for another
/// type.
template <class T>
T value_from(const nlohmann::ordered_json& json) {
  if constexpr (requires(T & record) { T::each_field(record, [](const char*, auto&) {}); }) {
    T record;
    from_object(json, record);
    return record;
  } else {
    return json.get<T>();
  }
}

}  // namespace klab
