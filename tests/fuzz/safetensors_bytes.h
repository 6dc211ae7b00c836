// SPDX-License-Identifier: Apache-2.0
// Short forms of safetensors files, whose lengths and checksums an input cannot hit by chance.
#pragma once

#include <string>
#include <string_view>

namespace klab::fuzz {

/// An input that begins with "{" is a header and, after a zero byte, the tensors' bytes; this adds the header's length.
/// Another input is unchanged.
std::string safetensors_bytes(std::string_view input);

/// Replaces the digits of a checkpoint's checksum, if it has one, by the right ones.
std::string with_checksum(std::string bytes);

}  // namespace klab::fuzz
