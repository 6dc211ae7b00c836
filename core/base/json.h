// JSON from files that nobody here wrote.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace klab {

/// Parses a whole text. Throws Error that names `origin`: not valid, an object that names a key twice (the parser alone
/// would keep the last one in silence), or nested more than 64 deep.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& origin);

}  // namespace klab
