// SPDX-License-Identifier: Apache-2.0
// A model that trains in milliseconds, and a task for it: predict the preceding token.
#pragma once

#include <torch/types.h>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"

namespace klab {

constexpr int64_t kTinyVocabulary = 6;

/// One layer, whose mixer is a linear map of the preceding token. Parameters are zero until Trainer initialises them.
Decoder tiny_model(int64_t width = 8);

/// Batches of random tokens, a pure function of seed and index. The target of every token except the first is
/// the preceding token plus `shift`, modulo the vocabulary.
BatchSource previous_token_task(uint64_t seed, int64_t shift = 0, int64_t batch = 8, int64_t length = 6);

}  // namespace klab
