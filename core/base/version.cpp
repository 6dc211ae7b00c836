// SPDX-License-Identifier: Apache-2.0
#include "core/base/version.h"

#include <array>
#include <cstdio>
#include <memory>

namespace klab {

std::string version() { return KLAB_VERSION; }

std::string commit() {
  static const std::string answer = [] {
    const char* command = "git -C '" KLAB_SOURCE_DIR "' describe --always --exclude '*' --dirty=+ 2>/dev/null";
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command, "r"), ::pclose);
    std::array<char, 64> line{};
    if (!pipe || std::fgets(line.data(), line.size(), pipe.get()) == nullptr) return std::string("unknown");
    std::string text = line.data();
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }();
  return answer;
}

}  // namespace klab
