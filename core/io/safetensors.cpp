// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/base/json.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;
using SortedJson = nlohmann::json;

constexpr size_t kLengthBytes = 8, kMostDimensions = 64;  // the latter is torch's limit
constexpr uint64_t kLongestHeader = 100'000'000;          // the limit of the public readers

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {
    {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"I64", at::kLong},
    {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},  {"U8", at::kByte},       {"BOOL", at::kBool}};

std::string little_endian(uint64_t value) {
  std::string bytes(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i) bytes[i] = static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

uint64_t from_little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return value;
}

SortedJson parse_header(std::string_view text, const std::string& origin) {
  SortedJson header = parse_sorted_json(text, origin + ": the header");
  if (!header.is_object()) fail("{}: the header is not a JSON object", origin);
  return header;
}

uint64_t checked_bytes(const std::vector<int64_t>& shape, at::ScalarType dtype, const std::string& where) {
  if (shape.size() > kMostDimensions)
    fail("{} has {} dimensions; at most {} are read", where, shape.size(), kMostDimensions);
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  // Strides count a dimension of size 0 as 1.
  int64_t bytes = element, stride = element;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes) ||
        __builtin_mul_overflow(stride, std::max<int64_t>(size, 1), &stride)) {
      fail("{}: its shape overflows", where);
    }
  }
  return static_cast<uint64_t>(bytes);
}

TensorEntry parse_entry(const std::string& name, const SortedJson& json, uint64_t data_bytes,
                        const std::string& origin) {
  const std::string where = fmt::format("{}: tensor '{}'", origin, name);
  TensorEntry entry{name, at::kFloat, {}, 0, 0};
  try {
    const auto dtype = json.at("dtype").get<std::string>();
    bool known = false;
    for (const DtypeName& candidate : kDtypes) {
      if (dtype == candidate.name) entry.dtype = candidate.type, known = true;
    }
    if (!known) fail("{} has the unknown dtype '{}'", where, dtype);
    if (!json.at("shape").is_array()) fail("{}: shape must be a list of counts", where);
    for (const SortedJson& size : json.at("shape")) {
      if (!size.is_number_unsigned() || size.get<uint64_t>() > INT64_MAX)
        fail("{} has a size that is not a count", where);
      entry.shape.push_back(size.get<int64_t>());
    }
    const SortedJson& offsets = json.at("data_offsets");
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned()) {
      fail("{}: data_offsets must be two counts", where);
    }
    entry.begin = offsets[0].get<uint64_t>();
    entry.end = offsets[1].get<uint64_t>();
  } catch (const SortedJson::exception& error) {
    fail("{}: {}", where, error.what());
  }
  if (entry.begin > entry.end || entry.end > data_bytes) {
    fail("{} claims bytes {} to {} of {}: the file is truncated or the header is wrong", where, entry.begin, entry.end,
         data_bytes);
  }
  if (checked_bytes(entry.shape, entry.dtype, where) != entry.end - entry.begin) {
    fail("{} has {} bytes, which is not what its shape and dtype need", where, entry.end - entry.begin);
  }
  return entry;
}

void check_layout(std::vector<TensorEntry> entries, uint64_t data_bytes, const std::string& origin) {
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& x, const TensorEntry& y) {
    return std::pair(x.begin, x.end) < std::pair(y.begin, y.end);
  });
  uint64_t expected = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != expected) {
      fail("{}: tensor '{}' begins at byte {}, but must begin at {}: tensors overlap or leave a hole", origin,
           entry.name, entry.begin, expected);
    }
    expected = entry.end;
  }
  if (expected != data_bytes) fail("{}: {} bytes after the last tensor", origin, data_bytes - expected);
}

struct Header {
  std::vector<TensorEntry> entries;
  std::map<std::string, std::string> metadata;
  size_t data;  // offset of the tensors' bytes
};

Header read_header(std::string_view bytes, const std::string& origin) {
  if (bytes.size() < kLengthBytes) fail("{}: {} bytes are too few for a safetensors file", origin, bytes.size());
  const uint64_t length = from_little_endian(bytes);
  if (length > kLongestHeader || length > bytes.size() - kLengthBytes) {
    fail("{}: the header claims {} bytes, but the file has {}: truncated, or not a safetensors file", origin, length,
         bytes.size());
  }
  Header header{{}, {}, kLengthBytes + length};
  const uint64_t data_bytes = bytes.size() - header.data;
  const SortedJson parsed = parse_header(bytes.substr(kLengthBytes, length), origin);
  for (const auto& [name, json] : parsed.items()) {
    if (name != "__metadata__") {
      header.entries.push_back(parse_entry(name, json, data_bytes, origin));
      continue;
    }
    if (!json.is_object()) fail("{}: __metadata__ must be a map of texts", origin);
    for (const auto& [key, value] : json.items()) {
      if (!value.is_string()) fail("{}: metadata '{}' is not text", origin, key);
      header.metadata[key] = value.get<std::string>();
    }
  }
  check_layout(header.entries, data_bytes, origin);
  return header;
}

std::string dtype_name(const TensorEntry& entry) {
  for (const DtypeName& candidate : kDtypes) {
    if (candidate.type == entry.dtype) return candidate.name;
  }
  fail("tensor '{}' has dtype {}, which safetensors cannot hold", entry.name, at::toString(entry.dtype));
}

// The header: length and JSON. Sets the offsets of the entries, which are contiguous.
std::string write_header(std::vector<TensorEntry>& entries, const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t end = 0;
  for (TensorEntry& entry : entries) {
    if (header.contains(entry.name)) fail("tensor '{}' is listed twice", entry.name);
    entry.begin = end;
    end += checked_bytes(entry.shape, entry.dtype, fmt::format("tensor '{}'", entry.name));
    entry.end = end;
    header[entry.name] = {
        {"dtype", dtype_name(entry)}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');  // keeps the data aligned
  return little_endian(text.size()) + text;
}

std::string_view bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(std::make_shared<MappedFile>(path)) {
  Header header = read_header(file_->bytes(), path);
  data_ = header.data;
  metadata_ = std::move(header.metadata);
  for (TensorEntry& entry : header.entries) {
    const std::string name = entry.name;
    entries_.emplace(name, std::move(entry));
  }
}

const TensorEntry& SafetensorsFile::at(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail("{}: there is no tensor '{}'", path_, name);
  return found->second;
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const { return part(name, 0, at(name).shape); }

at::Tensor SafetensorsFile::part(const std::string& name, int64_t first, at::IntArrayRef shape) const {
  const TensorEntry& entry = at(name);
  const std::string where = fmt::format("{}: tensor '{}'", path_, name);
  const uint64_t bytes = checked_bytes(shape.vec(), entry.dtype, where), element = at::elementSize(entry.dtype);
  const uint64_t elements = (entry.end - entry.begin) / element;
  if (first < 0 || static_cast<uint64_t>(first) > elements ||
      bytes / element > elements - static_cast<uint64_t>(first)) {
    fail("{} has {} numbers, but {} from number {} on are asked for", where, elements, bytes / element, first);
  }
  const char* begin = file_->data() + data_ + entry.begin + static_cast<uint64_t>(first) * element;
  if (bytes == 0 || reinterpret_cast<uintptr_t>(begin) % element != 0) {
    at::Tensor copy = at::empty(shape, at::TensorOptions(entry.dtype));
    if (bytes > 0) std::memcpy(copy.mutable_data_ptr(), begin, bytes);
    return copy;
  }
  const auto keep_alive = [file = file_](void*) {};
  return at::from_blob(const_cast<char*>(begin), shape, keep_alive, at::TensorOptions(entry.dtype));
}

void SafetensorsFile::release_pages(const std::string& name) const {
  const TensorEntry& entry = at(name);
  file_->release_pages(data_ + entry.begin, data_ + entry.end);
}

TensorEntry entry_of(const std::string& name, const at::Tensor& tensor) {
  return {name, tensor.scalar_type(), tensor.sizes().vec()};
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<TensorEntry> entries,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), entries_(std::move(entries)), file_(path) {
  header_ = write_header(entries_, metadata);
  file_.write(header_);
}

void SafetensorsWriter::write(const std::string& name, const at::Tensor& piece) {
  while (next_ < entries_.size() && written_ == entries_[next_].end && entries_[next_].name != name) ++next_;
  if (next_ >= entries_.size() || entries_[next_].name != name) fail("tensor '{}' is written out of turn", name);
  const TensorEntry& entry = entries_[next_];
  const at::Tensor plain = piece.detach().to(at::kCPU).contiguous();
  if (plain.scalar_type() != entry.dtype || written_ + plain.nbytes() > entry.end) {
    fail("tensor '{}' is written with another dtype than announced, or with too much data", name);
  }
  file_.write(bytes_of(plain));
  written_ += plain.nbytes();
}

void SafetensorsWriter::replace_metadata(const std::string& field, const std::string& value) {
  const std::string key = nlohmann::ordered_json(field).dump() + ":", text = nlohmann::ordered_json(value).dump();
  const size_t found = header_.find(key), at = found + key.size();
  if (found == std::string::npos) fail("'{}' is not a field of the file's metadata", field);
  header_.replace(at, text.size(), text);
  file_.overwrite(at, text);
}

void SafetensorsWriter::commit_as(const std::string& path) {
  for (const TensorEntry& entry : entries_) {
    if (written_ < entry.end) fail("tensor '{}' is not complete", entry.name);
  }
  file_.commit_as(path);
}

std::string encode_safetensors(const Safetensors& content) {
  std::vector<TensorEntry> entries;
  for (const auto& [name, tensor] : content.tensors) entries.push_back(entry_of(name, tensor));
  std::string bytes = write_header(entries, content.metadata);
  for (const auto& [name, tensor] : content.tensors) bytes += bytes_of(tensor.detach().to(at::kCPU).contiguous());
  return bytes;
}

Safetensors decode_safetensors(std::string_view bytes, const std::string& origin) {
  const Header header = read_header(bytes, origin);
  Safetensors content{{}, header.metadata};
  for (const TensorEntry& entry : header.entries) {
    at::Tensor tensor = at::empty(entry.shape, at::TensorOptions(entry.dtype));
    if (entry.end > entry.begin) {
      std::memcpy(tensor.mutable_data_ptr(), bytes.data() + header.data + entry.begin, entry.end - entry.begin);
    }
    content.tensors[entry.name] = tensor;
  }
  return content;
}

}  // namespace klab
