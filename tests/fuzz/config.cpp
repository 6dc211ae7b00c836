// SPDX-License-Identifier: Apache-2.0
#include "core/base/config.h"

#include "core/base/yaml.h"
#include "fuzz/every_field.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// A config file.
void config(std::string_view input) {
  // It may extend others; those must be none of the system's.
  if (input.find('/') != std::string_view::npos) return;
  expect_same_after_writing(read_yaml(scratch_file("config.yaml", input)));
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(config)
