// SPDX-License-Identifier: Apache-2.0
#include "core/base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/text.h"
#include "core/base/utf8.h"

namespace klab {
namespace {

constexpr int kDeepestNesting = 20, kDeepestExtension = 8;
constexpr int64_t kMostValues = 100'000;
constexpr size_t kLongestYaml = size_t{2} << 20;

// Aliases let a short text stand for values without end: a map inside itself, or lists of lists of lists.
void check_extent(const YAML::Node& node, const std::string& path, int depth, int64_t& values) {
  if (depth > kDeepestNesting) {
    refuse("{}: nested too deeply: more than {} levels, or an alias inside of what it stands for",
           origin_of(node, path), kDeepestNesting);
  }
  if (++values > kMostValues) {
    refuse("{}: holds more than {} values, counting those of an alias wherever it occurs", path, kMostValues);
  }
  if (!node.IsMap() && !node.IsSequence()) return;
  for (const auto& entry : node) {
    if (node.IsMap()) check_extent(entry.first, path, depth + 1, values);
    check_extent(node.IsMap() ? entry.second : YAML::Node(entry), path, depth + 1, values);
  }
}

YAML::Node checked_extent(const YAML::Node& node, const std::string& path) {
  int64_t values = 0;
  check_extent(node, path, 0, values);
  return node;
}

// Calls `visit(key, node)` for every value of a map, nested or dotted, with the nested keys joined by dots.
template <class Visit>
void each_value(const YAML::Node& map, const std::string& prefix, const std::string& path, std::set<std::string>& seen,
                const Visit& visit) {
  for (const auto& entry : map) {
    const std::string origin = origin_of(entry.first, path);
    if (!entry.first.IsScalar()) refuse("{}: a key must be a plain word", origin);
    const std::string key = prefix + entry.first.as<std::string>();
    if (!seen.insert(key).second) refuse("{}: the key '{}' occurs twice", origin, key);
    if (entry.second.IsMap() && entry.second.size() > 0) {
      each_value(entry.second, key + ".", path, seen, visit);
    } else {
      visit(key, entry.second, origin);
    }
  }
}

// A scalar of an unknown field: unquoted numbers and booleans get that type, everything else is text.
Value typed_scalar(const YAML::Node& node) {
  if (node.Tag() == "!") return node.Scalar();  // quoted
  if (node.Scalar() == "true" || node.Scalar() == "false") return node.Scalar() == "true";
  const Value value = Value::parse(node.Scalar(), nullptr, /*allow_exceptions=*/false);
  return value.is_number() ? value : Value(node.Scalar());
}

Value typed_map(const YAML::Node& map, const std::string& path) {
  Value object = Value::object();
  std::set<std::string> seen;
  each_value(map, "", path, seen, [&](const std::string& key, const YAML::Node& node, const std::string&) {
    object[key] = node.IsScalar() ? typed_scalar(node) : field_value(node, key, path);
  });
  return object;
}

std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path, int depth) {
  std::vector<Assignment> own;
  if (!map || map.IsNull()) return own;
  if (!map.IsMap()) {
    refuse("{}: a config is a map of keys to values (train: {{lr: 3e-3}})", origin_of(map, path));
  }
  std::set<std::string> seen;
  each_value(map, "", path, seen, [&](const std::string& key, const YAML::Node& node, const std::string& origin) {
    own.push_back({key, field_value(node, key, path), origin});
  });
  const auto base = std::find_if(own.begin(), own.end(), [](const Assignment& a) { return a.key == "extends"; });
  if (base == own.end()) return own;
  const std::string other = (std::filesystem::path(path).parent_path() / text_of(base->value)).string();
  if (depth == kDeepestExtension) refuse("{}: files that extend one another more than {} deep", base->origin, depth);
  own.erase(base);
  std::vector<Assignment> all = assignments_of(load_yaml(other), other, depth + 1);
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

// Configs are stored as YAML and JSON, which are UTF-8.
void check_utf8(std::string_view text, const std::string& path) {
  for (size_t at = 0, wrong = 0; at < text.size();) {
    const size_t length = character_length(text, at, wrong);
    if (length == 0) {
      const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
      refuse("{}, line {}: must be valid UTF-8", path, line);
    }
    at += length;
  }
}

// Takes no notice of what a parser reads.
struct Unread : YAML::EventHandler {
  using Mark = YAML::Mark;
  using Style = YAML::EmitterStyle::value;
  void OnDocumentStart(const Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const Mark&, YAML::anchor_t) override {}
  void OnAlias(const Mark&, YAML::anchor_t) override {}
  void OnScalar(const Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const Mark&, const std::string&, YAML::anchor_t, Style) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const Mark&, const std::string&, YAML::anchor_t, Style) override {}
  void OnMapEnd() override {}
};

// YAML::LoadAll() does not end for some texts that are not valid: it finds documents without end.
bool has_several_documents(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Unread unread;
  return parser.HandleNextDocument(unread) && parser.HandleNextDocument(unread);
}

// Words that YAML 1.1 parsers read as booleans or null.
bool is_yaml_word(std::string text) {
  static const std::set<std::string> words = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"};
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return words.count(text) != 0;
}

// Plain words unchanged, other text in JSON quotes, which are valid YAML.
std::string yaml_text(const std::string& text) {
  constexpr auto kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr auto kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/.*";
  const bool plain = text.find_first_of(kLetters) == 0 && text.find_first_not_of(kPlain) == std::string::npos;
  return plain && !is_yaml_word(text) ? text : Value(text).dump();
}

void append_block(const Value& map, const std::string& indent, std::string& out) {
  for (const auto& [key, value] : map.items()) {
    out += indent + key + ":";
    if (value.is_object()) {
      out += "\n";
      append_block(value, indent + "  ", out);
    } else {
      out += " " + yaml_flow(value) + "\n";
    }
  }
}

}  // namespace

YAML::Node parse_yaml(const std::string& text, const std::string& path) {
  if (text.size() > kLongestYaml) refuse("{}: {} bytes of YAML; at most {} are read", path, text.size(), kLongestYaml);
  check_utf8(text, path);
  try {
    if (!has_several_documents(text)) return checked_extent(YAML::Load(text), path);
  } catch (const YAML::Exception& error) {
    refuse("{}, line {}: not valid YAML: {}", path, error.mark.line + 1, error.msg);
  }
  refuse("{}: more than one document ('---')", path);
}

YAML::Node load_yaml(const std::string& path) { return parse_yaml(read_file(path), path); }

std::string origin_of(const YAML::Node& node, const std::string& path) {
  return fmt::format("{}, line {}", path, node.Mark().line + 1);
}

Value field_value(const YAML::Node& node, const std::string& key, const std::string& path) {
  if (node.IsScalar()) return node.as<std::string>();
  if (!node.IsSequence()) refuse("{}: '{}' has no value", origin_of(node, path), key);
  Value items = Value::array();
  for (const auto& item : node) {
    if (!item.IsScalar() && !item.IsMap()) {
      refuse("{}: '{}' must be a list of plain values or of maps", origin_of(node, path), key);
    }
    items.push_back(item.IsScalar() ? Value(item.as<std::string>()) : typed_map(item, path));
  }
  return items;
}

std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path) {
  return assignments_of(map, path, 0);
}

std::vector<Assignment> read_yaml(const std::string& path) { return assignments_of(load_yaml(path), path); }

Value parse_yaml_list(const std::string& text) {
  const std::string list(trimmed(text));
  YAML::Node node;
  try {
    node = YAML::Load(list.starts_with('[') ? list : "[" + list + "]");
  } catch (const YAML::Exception& error) {
    refuse("must be a list such as [a, b]: {}", error.msg);
  }
  if (!node.IsSequence()) refuse("must be a list such as [a, b]");
  for (const auto& item : node) {
    if (item.IsNull() || (item.IsScalar() && item.Scalar().empty() && item.Tag() != "!")) {
      refuse("must be a list without empty items");
    }
  }
  try {
    return field_value(checked_extent(node, "command line"), text, "command line");
  } catch (const UsageError& error) {
    refuse("must be a list such as [a, b] or [{{length: 256}}], with a space after the colon: {}", error.what());
  }
}

std::string yaml_flow(const Value& value) {
  if (value.is_string()) return yaml_text(value.get<std::string>());
  if (!value.is_structured()) return text_of(value);
  std::vector<std::string> items;
  for (const auto& [key, item] : value.items()) {
    items.push_back(value.is_object() ? fmt::format("{}: {}", yaml_text(key), yaml_flow(item)) : yaml_flow(item));
  }
  return value.is_object() ? "{" + join(items) + "}" : "[" + join(items) + "]";
}

std::string yaml_block(const Value& map) {
  std::string out;
  append_block(map, "", out);
  return out;
}

}  // namespace klab
