// SPDX-License-Identifier: Apache-2.0
#include "core/base/provenance.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "core/base/text.h"
#include "core/base/version.h"

namespace klab {
namespace {

// These byte tests are independent of the locale.
bool needs_no_quotes(unsigned char c) {
  const bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return alphanumeric || std::string_view("_@%+=:,./-").find(static_cast<char>(c)) != std::string_view::npos;
}

bool is_control(unsigned char c) { return c < 0x20 || c == 0x7f; }

std::string quoted_word(const std::string& word) {
  if (!word.empty() && std::all_of(word.begin(), word.end(), needs_no_quotes)) return word;
  const bool escapes = std::any_of(word.begin(), word.end(), is_control);
  std::string quoted = escapes ? "$'" : "'";
  for (const char c : word) {
    if (!escapes) {
      quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else if (is_control(static_cast<unsigned char>(c))) {
      quoted += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
    } else if (c == '\'' || c == '\\') {
      quoted += {'\\', c};
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  utsname system{};
  return ::uname(&system) == 0 ? system.machine : "unknown processor";
}

}  // namespace

std::string quoted_command(const std::vector<std::string>& words) {
  std::vector<std::string> quoted;
  for (const std::string& word : words) quoted.push_back(quoted_word(word));
  return join(quoted, " ");
}

std::vector<std::string> provenance(const std::string& command, int threads) {
  return {fmt::format("klab {} commit {}", version(), commit()),
          fmt::format("machine: {}, {} cores, {} threads used", processor(), ::sysconf(_SC_NPROCESSORS_ONLN), threads),
          "command: " + command};
}

}  // namespace klab
