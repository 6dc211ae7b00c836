#include "core/base/config.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {
namespace {

// A whole text as a number; nothing may follow it.
template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, value);
  if (status != std::errc{} || stop != end) return std::nullopt;
  return value;
}

// Throws UsageError for bytes that neither YAML nor JSON can hold.
void check_utf8(const std::string& text) {
  try {
    nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    refuse("'{}' is not valid UTF-8", text);
  }
}

// Words that YAML 1.1 readers take for a truth value or for nothing.
bool is_yaml_word(std::string text) {
  static const std::set<std::string> words = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return words.count(text) != 0;
}

// A text as YAML and as a list item: plain words as they are, all else in JSON's quotes, which YAML shares.
std::string yaml_text(const std::string& text) {
  constexpr auto kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr auto kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/.";
  const bool plain = text.find_first_of(kLetters) == 0 && text.find_first_not_of(kPlain) == std::string::npos;
  return plain && !is_yaml_word(text) ? text : nlohmann::json(text).dump();
}

}  // namespace

std::string list_text(const std::vector<std::string>& items) {
  std::vector<std::string> texts;
  for (const std::string& item : items) texts.push_back(yaml_text(item));
  return "[" + join(texts) + "]";
}

namespace {

// The item in JSON's quotes that begins at `at`; moves `at` behind it.
std::string quoted_item(const std::string& text, size_t& at) {
  const size_t begin = at++;
  while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
  if (at >= text.size()) refuse("'{}' has a quote that is not closed", text);
  const auto item = nlohmann::json::parse(text.substr(begin, ++at - begin), nullptr, false);
  if (!item.is_string()) refuse("'{}' has a quoted item that is not valid", text);
  at = std::min(text.find_first_not_of(" \t", at), text.size());
  if (at < text.size() && text[at] != ',') refuse("'{}' has text behind a quoted item", text);
  return item.get<std::string>();
}

std::vector<std::string> parse_list(const std::string& text) {
  std::string inner(trimmed(text));
  const bool opens = inner.rfind('[', 0) == 0, closes = !inner.empty() && inner.back() == ']';
  if (opens != closes) refuse("'{}' has a bracket without its partner", text);
  if (opens) inner = trimmed(std::string_view(inner).substr(1, inner.size() - 2));
  std::vector<std::string> items;
  for (size_t at = 0; at < inner.size() || !items.empty(); ++at) {
    at = std::min(inner.find_first_not_of(" \t", at), inner.size());
    if (at < inner.size() && inner[at] == '"') {
      items.push_back(quoted_item(inner, at));
    } else {
      const size_t end = std::min(inner.find(',', at), inner.size());
      items.emplace_back(trimmed(std::string_view(inner).substr(at, end - at)));
      if (items.back().empty()) refuse("'{}' has an empty item", text);
      at = end;
    }
    if (at >= inner.size()) break;
  }
  return items;
}

}  // namespace

void copy_fields(Configurable& from, Configurable& to) {
  std::vector<Assignment> assignments;
  const Fields fields = Fields::of(from);
  for (const Field& field : fields.all()) assignments.push_back({field.key, field.get(), "copied config"});
  assign(to, assignments);
}

Fields Fields::of(Configurable& config) {
  Fields fields;
  config.visit(fields);
  return fields;
}

void Fields::add(const std::string& name, std::string type, const std::string& help,
                 std::function<void(const std::string&)> set, std::function<std::string()> get) {
  fields_.push_back({prefix_ + name, std::move(type), help, std::move(set), std::move(get)});
}

void Fields::operator()(const std::string& name, int64_t& value, const std::string& help) {
  add(
      name, "integer", help,
      [&value](const std::string& text) {
        // 1e4 is an integer too when it is one exactly.
        if (const auto integer = parse_number<int64_t>(text)) {
          value = *integer;
        } else if (const auto number = parse_number<double>(text);
                   number && *number == std::floor(*number) && std::abs(*number) < 9e15) {
          value = static_cast<int64_t>(*number);
        } else {
          refuse("'{}' is not an integer (for example 64)", text);
        }
      },
      [&value] { return fmt::format("{}", value); });
}

void Fields::operator()(const std::string& name, double& value, const std::string& help) {
  add(
      name, "number", help,
      [&value](const std::string& text) {
        const auto number = parse_number<double>(text);
        if (!number || !std::isfinite(*number)) {
          refuse("'{}' is not a finite number (for example 3e-3)", text);
        }
        value = *number;
      },
      [&value] { return fmt::format("{}", value); });
}

void Fields::operator()(const std::string& name, bool& value, const std::string& help) {
  add(
      name, "true or false", help,
      [&value](const std::string& text) {
        if (text != "true" && text != "false") refuse("'{}' is neither true nor false", text);
        value = text == "true";
      },
      [&value] { return std::string(value ? "true" : "false"); });
}

void Fields::operator()(const std::string& name, std::string& value, const std::string& help) {
  add(
      name, "text", help,
      [&value](const std::string& text) {
        check_utf8(text);
        value = text;
      },
      [&value] { return value; });
}

void Fields::operator()(const std::string& name, std::vector<std::string>& value, const std::string& help,
                        bool may_be_empty) {
  add(
      name, "list of text", help,
      [&value, may_be_empty](const std::string& text) {
        check_utf8(text);
        std::vector<std::string> items = parse_list(text);
        if (items.empty() && !may_be_empty) refuse("an empty list is not allowed here");
        value = std::move(items);
      },
      [&value] { return list_text(value); });
}

void Fields::choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
                    const std::string& help) {
  add(
      name, join(choices, " | "), help,
      [&value, choices](const std::string& text) {
        if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
          refuse("'{}' is not one of: {}", text, join(choices));
        }
        value = text;
      },
      [&value] { return value; });
}

void Fields::group(const std::string& name, Configurable& config) {
  const std::string outer = prefix_;
  prefix_ += name + ".";
  config.visit(*this);
  prefix_ = outer;
}

std::vector<std::string> Fields::keys() const {
  std::vector<std::string> keys;
  for (const Field& field : fields_) keys.push_back(field.key);
  return keys;
}

namespace {

void assign_in_turn(Configurable& config, const std::vector<Assignment>& assignments) {
  std::vector<bool> done(assignments.size(), false);
  // Setting a name (task.name) can bring further keys, so the fields are asked for again until nothing
  // changes.
  for (bool progress = true; progress;) {
    progress = false;
    const Fields fields = Fields::of(config);
    for (size_t i = 0; i < assignments.size() && !progress; ++i) {
      if (done[i]) continue;
      const Assignment& wanted = assignments[i];
      for (const Field& field : fields.all()) {
        if (field.key != wanted.key) continue;
        try {
          field.set(wanted.text);
        } catch (const UsageError& error) {
          refuse("{}: {}: {}", wanted.origin, wanted.key, error.what());
        }
        done[i] = progress = true;
        break;
      }
    }
  }
  for (size_t i = 0; i < assignments.size(); ++i) {
    if (done[i]) continue;
    const std::vector<std::string> keys = Fields::of(config).keys();
    const std::string hint = did_you_mean(assignments[i].key, keys);
    refuse("{}: unknown key '{}'{}{}", assignments[i].origin, assignments[i].key, hint,
           hint.empty() ? fmt::format(". Known keys: {}", join(keys)) : "");
  }
}

}  // namespace

void assign(Configurable& config, const std::vector<Assignment>& assignments) {
  assign_in_turn(config, assignments);
  // A name that was set late may have brought its own options, with their defaults, or taken options away. So
  // with all names in place the last word on each key is said once more, and a key that is gone by now is
  // refused.
  std::vector<Assignment> last;
  for (auto at = assignments.rbegin(); at != assignments.rend(); ++at) {
    const auto same = [&](const Assignment& later) { return later.key == at->key; };
    if (std::none_of(last.begin(), last.end(), same)) last.push_back(*at);
  }
  std::reverse(last.begin(), last.end());
  assign_in_turn(config, last);
}

namespace {

nlohmann::ordered_json json_value(const Field& field) {
  const std::string text = field.get();
  if (field.type == "integer" || field.type == "number" || field.type == "true or false") {
    return nlohmann::ordered_json::parse(text);
  }
  if (field.type == "list of text") return parse_list(text);
  return text;
}

nlohmann::ordered_json json_tree(Configurable& config) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  const Fields fields = Fields::of(config);
  for (const Field& field : fields.all()) {
    nlohmann::ordered_json* node = &root;
    for (const std::string& part : split(field.key, '.')) node = &(*node)[part];
    *node = json_value(field);
  }
  return root;
}

void emit_yaml(const nlohmann::ordered_json& node, const std::string& indent, std::string& out) {
  for (const auto& [key, value] : node.items()) {
    out += indent + key + ":";
    if (value.is_object()) {
      out += "\n";
      emit_yaml(value, indent + "  ", out);
    } else if (value.is_array()) {
      out += " " + list_text(value.get<std::vector<std::string>>()) + "\n";
    } else {
      out += " " + (value.is_string() ? yaml_text(value.get<std::string>()) : value.dump()) + "\n";
    }
  }
}

}  // namespace

std::string to_yaml(Configurable& config) {
  std::string out;
  emit_yaml(json_tree(config), "", out);
  return out;
}

std::string to_json(Configurable& config) { return json_tree(config).dump(2); }

std::string config_hash(Configurable& config) {
  const std::string text = to_yaml(config);
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

void require(bool holds, const std::string& key, const std::string& value, const std::string& must) {
  if (!holds) refuse("{} = {} {}", key, value, must);
}

}  // namespace klab
