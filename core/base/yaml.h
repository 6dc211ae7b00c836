// SPDX-License-Identifier: Apache-2.0
// Reading YAML, with errors that name file and line, and writing values as YAML.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"

namespace YAML {
class Node;
}

namespace klab {

/// Parses a text with one document, or none (a null node); `path` is its name in messages. Throws UsageError for
/// invalid YAML, for text that is not UTF-8, and for one that is too long, nested too deeply or expands to too many
/// values through aliases.
YAML::Node parse_yaml(const std::string& text, const std::string& path);

/// The same for a file. Throws Error when it cannot be read.
YAML::Node load_yaml(const std::string& path);

/// "sweep.yaml, line 3".
std::string origin_of(const YAML::Node& node, const std::string& path);

/// The value of a node for the field `key`: a scalar as text, which the field interprets by its type; a list of
/// scalars; or a list of maps, in which unquoted numbers and booleans are typed and nested keys are joined by dots.
/// Throws UsageError for anything else.
Value field_value(const YAML::Node& node, const std::string& key, const std::string& path);

/// The assignments of a map of config keys, nested or dotted, from the file `path`. With a key `extends: other.yaml`
/// (relative to the file) the assignments of the other file come first, so that this map overrides them. Throws
/// UsageError when it is not a map of scalars, lists and maps, has a duplicate key, or extends itself.
std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path);

/// The same for a whole file. Throws Error when it cannot be read.
std::vector<Assignment> read_yaml(const std::string& path);

/// Parses a list from a command line: "[a, b]", or without the brackets. Throws UsageError.
Value parse_yaml_list(const std::string& text);

/// A value in YAML flow style, on one line: [kda, mla], [{length: 256}].
std::string yaml_flow(const Value& value);

/// A map of maps and values in YAML block style, one line per value.
std::string yaml_block(const Value& map);

}  // namespace klab
