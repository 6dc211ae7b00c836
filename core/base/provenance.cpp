// SPDX-License-Identifier: Apache-2.0
#include "core/base/provenance.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <torch/headeronly/version.h>
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

// The instruction sets on which results depend, because kernels are chosen by them.
std::string instruction_sets(const std::string& flags) {
  std::vector<std::string> found;
  const std::string all = " " + flags + " ";
  for (const auto& [flag, name] : {std::pair(" avx2 ", "AVX2"), std::pair(" avx512f ", "AVX-512"),
                                   std::pair(" avx512_bf16 ", "AVX-512-BF16"), std::pair(" amx_tile ", "AMX")}) {
    if (all.find(flag) != std::string::npos) found.emplace_back(name);
  }
  return found.empty() ? "" : " with " + join(found, " ");
}

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string model;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) model = line.substr(line.find(':') + 2);
    if (!model.empty() && line.rfind("flags", 0) == 0) return model + instruction_sets(line.substr(line.find(':') + 1));
  }
  if (!model.empty()) return model;
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
          fmt::format("libraries: torch {}, GCC {}", TORCH_VERSION, __VERSION__), "command: " + command};
}

}  // namespace klab
