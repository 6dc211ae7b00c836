// YAML files that people write, with their mistakes named by file and line, and values written as YAML.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"

namespace YAML {
class Node;
}

namespace klab {

/// The one document of a text, a map or null; `path` names it in messages. Throws UsageError when it is no valid YAML.
YAML::Node parse_yaml(const std::string& text, const std::string& path);

/// The same of a file. Throws Error when it cannot be read.
YAML::Node load_yaml(const std::string& path);

/// "sweep.yaml, line 3".
std::string origin_of(const YAML::Node& node, const std::string& path);

/// The value that a node gives to the field `key`: a scalar as text, which the field's type interprets; a list of
/// such; or a list of maps, in which plain words that are numbers, true or false have that type and nested keys are
/// joined by dots. Throws UsageError for anything else.
Value field_value(const YAML::Node& node, const std::string& key, const std::string& path);

/// The assignments of a map of config keys, nested or dotted, from the file `path`. With a key `extends: other.yaml`
/// (relative to the file) those of the other file come first, so that this map is a delta over it. Throws UsageError
/// when it is not a map of scalars, lists and maps, names a key twice, or extends itself.
std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path);

/// The same of a whole file. Throws Error when it cannot be read.
std::vector<Assignment> read_yaml(const std::string& path);

/// The list that a text from a command line says: "[a, b]", or without the brackets. Throws UsageError.
Value parse_yaml_list(const std::string& text);

/// A value on one line: [kda, mla], [{length: 256}].
std::string yaml_flow(const Value& value);

/// A map of maps and values, a line for each value.
std::string yaml_block(const Value& map);

}  // namespace klab
