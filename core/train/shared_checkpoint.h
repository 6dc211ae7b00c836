// SPDX-License-Identifier: Apache-2.0
// Checkpoints of tensors that ranks have in parts.
#pragma once

#include <string>

#include "core/io/checkpoint.h"
#include "core/parallel/rank_group.h"

namespace klab {

/// An operation of all ranks: writes a checkpoint of all their tensors to `path`, with the fields of rank 0; of a
/// tensor that several have, once. Whole: rank 0 writes one file, and receives the others' tensors a few at a time.
/// `sharded`: every rank writes a file with some of its tensors, which have about as many bytes on each, and then rank
/// 0 the file with the fields; the folder must be one for all ranks. Throws Error, also if rank 0 does not find a
/// shard.
void save_checkpoint(RankGroup& ranks, const std::string& path, const Checkpoint& own, bool sharded);

}  // namespace klab
