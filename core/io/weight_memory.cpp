// SPDX-License-Identifier: Apache-2.0
#include "core/io/weight_memory.h"

#include <ATen/ATen.h>
#include <sys/mman.h>

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

constexpr size_t kPiece = size_t{64} << 20, kLargePage = size_t{2} << 20, kAlignment = 64;

size_t round_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

}  // namespace

struct WeightMemory::Piece {
  explicit Piece(size_t bytes) : size(bytes), mapped(bytes + kLargePage) {
    memory = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for {} bytes of weights", bytes);
    data = reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(memory), kLargePage));
    ::madvise(data, size, MADV_HUGEPAGE);  // only a hint: failure only costs speed
  }
  ~Piece() { ::munmap(memory, mapped); }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  size_t size, mapped;
  void* memory;
  char* data;
};

at::Tensor WeightMemory::empty(at::IntArrayRef shape, at::ScalarType dtype) {
  size_t bytes = at::elementSize(dtype);
  for (const int64_t length : shape) bytes *= static_cast<size_t>(length);
  if (bytes == 0) return at::empty(shape, dtype);
  if (!piece_ || used_ + bytes > piece_->size) {
    piece_ = std::make_shared<Piece>(round_up(std::max(bytes, kPiece), kLargePage));
    used_ = 0;
  }
  char* data = piece_->data + used_;
  used_ = round_up(used_ + bytes, kAlignment);
  return at::from_blob(
      data, shape, [piece = piece_](void*) {}, at::TensorOptions(dtype));
}

}  // namespace klab
