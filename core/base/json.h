// SPDX-License-Identifier: Apache-2.0
// JSON from untrusted files, and conversion of records to JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

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

/// A value as a C++ type. An integer must be one in JSON too: get_to() would convert 1.5, 1e300 and true. Throws
/// nlohmann::json::exception for another type.
template <class T>
void read_value(const nlohmann::ordered_json& json, T& value) {
  constexpr bool integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;
  if (integer && (json.is_number_float() || json.is_boolean())) {
    json.get_ref<const nlohmann::ordered_json::number_integer_t&>();  // throws
  }
  json.get_to(value);
}

template <class Item>
void read_value(const nlohmann::ordered_json& json, std::vector<Item>& values) {
  values.clear();
  for (const nlohmann::ordered_json& item : json.get_ref<const nlohmann::ordered_json::array_t&>()) {
    read_value(item, values.emplace_back());
  }
}

/// Throws nlohmann::json::exception for a missing member or a wrong type.
template <class Record>
void from_object(const nlohmann::ordered_json& object, Record& record) {
  Record::each_field(record, [&](const char* name, auto& member) { read_value(object.at(name), member); });
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
    T value{};
    read_value(json, value);
    return value;
  }
}

}  // namespace klab
