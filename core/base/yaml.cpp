#include "core/base/yaml.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"

namespace klab {
namespace {

constexpr int kDeepestNesting = 20, kDeepestExtension = 8;

void flatten(const YAML::Node& node, const std::string& prefix, const std::string& path, std::set<std::string>& seen,
             std::vector<Assignment>& assignments) {
  // An alias can make a map hold itself.
  if (std::count(prefix.begin(), prefix.end(), '.') > kDeepestNesting) {
    refuse("{}: '{}' is nested too deeply", origin_of(node, path), prefix);
  }
  for (const auto& entry : node) {
    const std::string origin = origin_of(entry.first, path);
    if (!entry.first.IsScalar()) refuse("{}: a key must be a plain word", origin);
    const std::string key = prefix + entry.first.as<std::string>();
    if (!seen.insert(key).second) refuse("{}: the key '{}' stands there twice", origin, key);
    if (entry.second.IsMap() && entry.second.size() > 0) {
      flatten(entry.second, key + ".", path, seen, assignments);
    } else {
      assignments.push_back({key, field_text(entry.second, key, path), origin});
    }
  }
}

std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path, int depth) {
  std::vector<Assignment> own;
  if (!map || map.IsNull()) return own;
  if (!map.IsMap()) {
    refuse("{}: a config is a map of keys to values (train: {{lr: 3e-3}})", origin_of(map, path));
  }
  std::set<std::string> seen;
  flatten(map, "", path, seen, own);
  const auto base = std::find_if(own.begin(), own.end(), [](const Assignment& a) { return a.key == "extends"; });
  if (base == own.end()) return own;
  const std::string other = (std::filesystem::path(path).parent_path() / base->text).string();
  if (depth == kDeepestExtension) refuse("{}: files that extend one another more than {} deep", base->origin, depth);
  own.erase(base);
  std::vector<Assignment> all = assignments_of(load_yaml(other), other, depth + 1);
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

}  // namespace

YAML::Node load_yaml(const std::string& path) {
  const std::string text = read_file(path);
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(text);
  } catch (const YAML::Exception& error) {
    refuse("{}, line {}: not valid YAML: {}", path, error.mark.line + 1, error.msg);
  }
  if (documents.size() > 1) refuse("{}: it holds more than one document ('---')", path);
  return documents.empty() ? YAML::Node() : documents.front();
}

std::string origin_of(const YAML::Node& node, const std::string& path) {
  return fmt::format("{}, line {}", path, node.Mark().line + 1);
}

std::string field_text(const YAML::Node& node, const std::string& key, const std::string& path) {
  if (node.IsScalar()) return node.as<std::string>();
  if (!node.IsSequence()) refuse("{}: '{}' has no value", origin_of(node, path), key);
  std::vector<std::string> items;
  for (const auto& item : node) {
    if (!item.IsScalar()) refuse("{}: '{}' must be a list of plain values", origin_of(node, path), key);
    items.push_back(item.as<std::string>());
  }
  return list_text(items);
}

std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path) {
  return assignments_of(map, path, 0);
}

std::vector<Assignment> read_yaml(const std::string& path) { return assignments_of(load_yaml(path), path); }

}  // namespace klab
