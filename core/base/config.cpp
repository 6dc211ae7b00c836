// SPDX-License-Identifier: Apache-2.0
#include "core/base/config.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/base/yaml.h"

namespace klab {
namespace {

// Parses the whole text as a number; nullopt if anything else follows.
template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, value);
  if (status != std::errc{} || stop != end) return std::nullopt;
  return value;
}

std::optional<double> number_of(const Value& value) {
  if (value.is_number()) return value.get<double>();
  return value.is_string() ? parse_number<double>(value.get_ref<const std::string&>()) : std::nullopt;
}

// Also accepts numbers such as 1e4 that are exact integers.
std::optional<int64_t> integer_of(const Value& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return std::nullopt;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_string()) {
    if (const auto integer = parse_number<int64_t>(value.get_ref<const std::string&>())) return integer;
  }
  const auto number = number_of(value);
  if (!number || *number != std::floor(*number) || std::abs(*number) >= 9e15) return std::nullopt;
  return static_cast<int64_t>(*number);
}

template <class Number>
void require_in(Number value, const Range<Number>& range) {
  if (range.contains(value)) return;
  if (range.ends == Ends::included) refuse("must be between {} and {}", range.least, range.most);
  const bool above = range.ends == Ends::above_least;
  refuse("must be {} {} and {} {}", above ? "above" : "at least", range.least, above ? "at most" : "below", range.most);
}

template <class Number>
std::string range_text(const Range<Number>& range) {
  if (range.most == std::numeric_limits<Number>::max()) return fmt::format(">= {}", range.least);
  return fmt::format("in {}{}, {}{}", range.ends == Ends::above_least ? '(' : '[', range.least, range.most,
                     range.ends == Ends::below_most ? ')' : ']');
}

// Throws UsageError for text that is not valid UTF-8, which neither YAML nor JSON can store.
std::string text_from(const Value& value) {
  if (!value.is_string()) return text_of(value);
  const std::string text = value.get<std::string>();
  try {
    value.dump();
  } catch (const Value::exception&) {
    refuse("must be valid UTF-8");
  }
  return text;
}

Value list_from(const Value& value) { return value.is_string() ? parse_yaml_list(text_from(value)) : value; }

}  // namespace

std::string text_of(const Value& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  return value.is_structured() ? yaml_flow(value) : value.dump();
}

// `visit` takes a mutable config, but a config that was passed as const is only read.
Fields Fields::of(const Configurable& config) {
  Fields fields;
  const_cast<Configurable&>(config).visit(fields);
  return fields;
}

void Fields::add(const std::string& name, std::string type, const std::string& help,
                 std::function<void(const Value&)> set, std::function<Value()> get) {
  fields_.push_back({prefix_ + name, std::move(type), help, std::move(set), std::move(get)});
}

void Fields::operator()(const std::string& name, int64_t& value, Range<int64_t> range, const std::string& help) {
  const auto set = [&value, range](const Value& given) {
    const auto integer = integer_of(given);
    if (!integer) refuse("must be an integer (for example 64)");
    require_in(*integer, range);
    value = *integer;
  };
  add(name, "integer " + range_text(range), help, set, [&value] { return Value(value); });
}

void Fields::operator()(const std::string& name, double& value, Range<double> range, const std::string& help) {
  const auto set = [&value, range](const Value& given) {
    const auto number = number_of(given);
    if (!number || !std::isfinite(*number)) refuse("must be a finite number (for example 3e-3)");
    require_in(*number, range);
    value = *number;
  };
  add(name, "number " + range_text(range), help, set, [&value] { return Value(value); });
}

void Fields::operator()(const std::string& name, bool& value, const std::string& help) {
  const auto set = [&value](const Value& given) {
    const std::string text = text_of(given);
    if (text != "true" && text != "false") refuse("must be true or false");
    value = text == "true";
  };
  add(name, "true or false", help, set, [&value] { return Value(value); });
}

void Fields::operator()(const std::string& name, std::string& value, const std::string& help) {
  add(
      name, "text", help, [&value](const Value& given) { value = text_from(given); },
      [&value] { return Value(value); });
}

void Fields::operator()(const std::string& name, std::vector<std::string>& value, const std::string& help) {
  const auto set = [&value](const Value& given) {
    const Value list = list_from(given);
    if (list.empty()) refuse("must be a list of at least one item");
    std::vector<std::string> items;
    for (const Value& item : list) {
      if (item.is_structured()) refuse("must be a list of plain values");
      items.push_back(text_from(item));
    }
    value = std::move(items);
  };
  add(name, "list of text", help, set, [&value] { return Value(value); });
}

void Fields::maps(const std::string& name, std::vector<Value>& value, const std::string& help) {
  const auto set = [&value](const Value& given) {
    const Value list = list_from(given);
    for (const Value& item : list) {
      if (!item.is_object() || item.empty()) {
        refuse("must be a list of maps, such as [{{length: 256}}, {{length: 512}}]");
      }
    }
    value = list.get<std::vector<Value>>();
  };
  add(name, "list of maps", help, set, [&value] { return Value(value); });
}

void Fields::choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
                    const std::string& help) {
  const auto set = [&value, choices](const Value& given) {
    const std::string text = text_of(given);
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      refuse("must be one of: {}{}", join(choices), did_you_mean(text, choices));
    }
    value = text;
  };
  add(name, join(choices, " | "), help, set, [&value] { return Value(value); });
}

void Fields::group(const std::string& name, Configurable& config) {
  const std::string outer = prefix_;
  prefix_ += name + ".";
  config.visit(*this);
  prefix_ = outer;
}

void Fields::renamed(const std::string& old_name, const std::string& name) {
  renamed_[prefix_ + old_name] = prefix_ + name;
}

std::vector<std::string> Fields::keys() const {
  std::vector<std::string> keys;
  for (const Field& field : fields_) keys.push_back(field.key);
  return keys;
}

const Field* Fields::find(const std::string& key) const {
  const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) { return field.key == key; });
  return found == fields_.end() ? nullptr : &*found;
}

namespace {

[[noreturn]] void refuse_key(const Fields& fields, const Assignment& wanted) {
  const auto renamed = fields.renamed_keys().find(wanted.key);
  if (renamed != fields.renamed_keys().end()) {
    refuse("{}: '{}' is now called '{}'", wanted.origin, wanted.key, renamed->second);
  }
  const std::vector<std::string> keys = fields.keys();
  const std::string hint = did_you_mean(wanted.key, keys);
  refuse("{}: unknown key '{}'{}{}", wanted.origin, wanted.key, hint,
         hint.empty() ? fmt::format(". Known keys: {}", join(keys)) : "");
}

void set(const Field& field, const Assignment& wanted) {
  try {
    field.set(wanted.value);
  } catch (const UsageError& error) {
    refuse("{}: {} = {} {}", wanted.origin, wanted.key, text_of(wanted.value), error.what());
  }
}

void assign_in_turn(Configurable& config, const std::vector<Assignment>& assignments) {
  std::vector<bool> done(assignments.size(), false);
  // Setting a name (task.name) can add keys, so the fields are collected again until nothing changes.
  for (bool progress = true; progress;) {
    progress = false;
    const Fields fields = Fields::of(config);
    for (size_t i = 0; i < assignments.size() && !progress; ++i) {
      if (done[i]) continue;
      if (const Field* field = fields.find(assignments[i].key)) {
        set(*field, assignments[i]);
        done[i] = progress = true;
      }
    }
  }
  const auto unknown = std::find(done.begin(), done.end(), false);
  if (unknown != done.end()) refuse_key(Fields::of(config), assignments[static_cast<size_t>(unknown - done.begin())]);
}

}  // namespace

void assign(Configurable& config, const std::vector<Assignment>& assignments) {
  assign_in_turn(config, assignments);
  // A name that was set late may have reset its options to the defaults, or removed options that were set before. So
  // the last value of each key is set again now that all names are set, and keys that no longer exist are rejected.
  std::vector<Assignment> last;
  for (auto at = assignments.rbegin(); at != assignments.rend(); ++at) {
    const auto same = [&](const Assignment& later) { return later.key == at->key; };
    if (std::none_of(last.begin(), last.end(), same)) last.push_back(*at);
  }
  std::reverse(last.begin(), last.end());
  assign_in_turn(config, last);
}

std::vector<std::pair<std::string, Value>> values_of(const Configurable& config) {
  std::vector<std::pair<std::string, Value>> values;
  const Fields fields = Fields::of(config);
  for (const Field& field : fields.all()) values.emplace_back(field.key, field.get());
  return values;
}

namespace {

Value tree_of(const Configurable& config) {
  Value root = Value::object();
  for (const auto& [key, value] : values_of(config)) {
    Value* node = &root;
    for (const std::string& part : split(key, '.')) node = &(*node)[part];
    *node = value;
  }
  return root;
}

}  // namespace

std::string to_yaml(const Configurable& config) { return yaml_block(tree_of(config)); }

std::string to_json(const Configurable& config) { return tree_of(config).dump(2); }

std::string config_hash(const Configurable& config) {
  const std::string text = tree_of(config).dump();
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

void check_values(const Configurable& config) {
  const Fields fields = Fields::of(config);
  for (const Field& field : fields.all()) {
    try {
      field.set(field.get());
    } catch (const UsageError& error) {
      refuse("{} = {} {}", field.key, text_of(field.get()), error.what());
    }
  }
}

void require(bool holds, const std::string& key, const std::string& value, const std::string& must) {
  if (!holds) refuse("{} = {} {}", key, value, must);
}

}  // namespace klab
