// SPDX-License-Identifier: Apache-2.0
// The allocator of large tensors on the CPU.
#pragma once

#include <cstdint>

namespace klab {

/// The most that freed blocks may add to the memory that tensors took at once, as a share of it.
constexpr double kBlockCacheShare = 0.1;

/// From now on, tensors of at least 1 MiB on the CPU have blocks of their own, mapped from the system. Freed blocks are
/// used again for tensors that are at most a third smaller; the least recently used are returned to the system when
/// there are more than kBlockCacheShare allows.
///
/// Training allocates the same tensors in every step. The C library either returns freed ones to the system, where
/// mapping them again takes a fifth of a step, or keeps them in a heap, whose fragmentation takes up to half again as
/// much memory as the tensors.
void use_block_cache();

/// Bytes of all such blocks, those of tensors and those that are kept. 0 before use_block_cache().
int64_t block_cache_bytes();

}  // namespace klab
