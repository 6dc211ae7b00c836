// YAML files that people write, with their mistakes named by file and line.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <vector>

#include "core/base/config.h"

namespace klab {

/// The one document of a file, a map or null. Throws Error when it cannot be read, UsageError when it is no valid YAML.
YAML::Node load_yaml(const std::string& path);

/// "sweep.yaml, line 3".
std::string origin_of(const YAML::Node& node, const std::string& path);

/// A scalar or a list of scalars as the text of a config field. Throws UsageError for anything else.
std::string field_text(const YAML::Node& node, const std::string& key, const std::string& path);

/// The assignments of a map of config keys, nested or dotted, from the file `path`; see read_yaml() in config.h, also
/// for `extends`.
std::vector<Assignment> assignments_of(const YAML::Node& map, const std::string& path);

}  // namespace klab
