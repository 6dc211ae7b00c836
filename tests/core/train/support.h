// A model that trains in milliseconds, and a task for it: the token before.
#pragma once

#include <torch/types.h>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"

namespace klab {

constexpr int64_t kTinyVocabulary = 6;

/// One layer, whose mixer is a matrix of the token before. Its parameters are zeros; Trainer draws them.
Decoder tiny_model(int64_t width = 8);

/// Batches of random tokens, a pure function of seed and index. The target of every token but the first is the one
/// before it plus `shift`, modulo the vocabulary.
BatchSource previous_token_task(uint64_t seed, int64_t shift = 0, int64_t batch = 8, int64_t length = 6);

}  // namespace klab
