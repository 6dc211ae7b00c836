// SPDX-License-Identifier: Apache-2.0
#include "fuzz/safetensors_bytes.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "fuzz/target.h"

namespace klab::fuzz {

std::string safetensors_bytes(std::string_view input) {
  if (!input.starts_with('{')) return std::string(input);
  const auto [header, data] = halves(input, std::string_view("\0", 1));
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(header.size() >> shift & 0xff);
  return bytes + std::string(header) + std::string(data);
}

std::string with_checksum(std::string bytes) {
  constexpr std::string_view kField = "\"klab.checksum\":\"", kNone = "0000000000000000";
  const size_t at = bytes.find(kField);
  if (at == std::string::npos || at + kField.size() + kNone.size() > bytes.size()) return bytes;
  bytes.replace(at + kField.size(), kNone.size(), kNone);
  const std::string checksum = fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
  return bytes.replace(at + kField.size(), kNone.size(), checksum);
}

}  // namespace klab::fuzz
