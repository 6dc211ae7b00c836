// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include "fuzz/target.h"

namespace klab::fuzz {

// Both parsers accept the same texts, and a value is read as it was written.
void json(std::string_view input) {
  const nlohmann::ordered_json value = parse_json(input, "input");
  expect(parse_json(value.dump(), "written") == value, "written JSON is read as another value");
  expect(parse_sorted_json(input, "input") == nlohmann::json(value), "the two JSON parsers differ");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(json)
