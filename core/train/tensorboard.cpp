// SPDX-License-Identifier: Apache-2.0
#include "core/train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "core/base/error.h"

namespace klab {
namespace {

// --- CRC-32C (Castagnoli), with TFRecord's mask ---

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    table[i] = crc;
  }
  return table;
}();

uint32_t masked_crc(const std::string& bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  crc = ~crc;
  return std::rotr(crc, 15) + 0xa282ead8u;
}

// --- Little-endian numbers and fields of protocol buffers ---

template <class Number>
std::string little_endian(Number x) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof x, '\0');
  std::memcpy(bytes.data(), &x, sizeof x);
  return bytes;
}

std::string varint(uint64_t x) {
  std::string bytes;
  for (; x >= 0x80; x >>= 7) bytes += static_cast<char>(x | 0x80);
  return bytes + static_cast<char>(x);
}

std::string key(int field, int wire_type) { return varint(static_cast<uint64_t>(field << 3 | wire_type)); }
std::string whole_field(int field, int64_t x) { return key(field, 0) + varint(static_cast<uint64_t>(x)); }
std::string double_field(int field, double x) { return key(field, 1) + little_endian(x); }
std::string float_field(int field, float x) { return key(field, 5) + little_endian(x); }
std::string bytes_field(int field, const std::string& x) { return key(field, 2) + varint(x.size()) + x; }

// Field numbers in tensorflow/core/util/event.proto and framework/summary.proto.
namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
constexpr int kSummaryValue = 1, kValueTag = 1, kValueSimple = 2, kSessionStatus = 1, kStart = 1;

std::string now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return double_field(event::kWallTime, std::chrono::duration<double>(since).count());
}

std::string file_name() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return fmt::format("events.out.tfevents.{:010}.{}.{}.klab",
                     std::chrono::duration_cast<std::chrono::seconds>(since).count(), host.data(), ::getpid());
}

std::string new_file_in(const std::string& folder) {
  make_writable_folder(folder);
  return folder + "/" + file_name();
}

}  // namespace

TensorboardWriter::TensorboardWriter(const std::string& folder, int64_t first_step) : file_(new_file_in(folder)) {
  record(now() + bytes_field(event::kFileVersion, "brain.Event:2"));
  if (first_step > 0) {
    record(now() + whole_field(event::kStep, first_step + 1) +
           bytes_field(event::kSessionLog, whole_field(kSessionStatus, kStart)));
  }
}

void TensorboardWriter::scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  std::string summary;
  for (const auto& [tag, value] : values) {
    summary +=
        bytes_field(kSummaryValue, bytes_field(kValueTag, tag) + float_field(kValueSimple, static_cast<float>(value)));
  }
  record(now() + whole_field(event::kStep, step) + bytes_field(event::kSummary, summary));
}

void TensorboardWriter::record(const std::string& event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  file_.write(length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event)));
}

}  // namespace klab
