// SPDX-License-Identifier: Apache-2.0
#include "core/base/message.h"

#include <cstdio>

#include "core/base/text.h"

namespace klab {

void print_message(std::string_view line) { fmt::print(stderr, "{}\n", printable(line)); }

}  // namespace klab
