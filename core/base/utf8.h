// SPDX-License-Identifier: Apache-2.0
// Characters of UTF-8 texts.
#pragma once

#include <cstddef>
#include <string_view>

namespace klab {

/// The number of bytes of the well-formed character at `at`; 0 if it is ill-formed, then `wrong` is the length of the
/// maximal ill-formed part (Unicode 15, table 3-7).
size_t character_length(std::string_view text, size_t at, size_t& wrong);

/// The code point of one well-formed character.
char32_t code_point(std::string_view character);

}  // namespace klab
