// SPDX-License-Identifier: Apache-2.0
// Models that klab trained, for the commands on public checkpoints.
#pragma once

#include <optional>
#include <string>

#include "core/public/checkpoint.h"
#include "core/public/tokenizer.h"

namespace klab {

/// Whether the folder is that of a run of klab train.
bool is_run(const std::string& folder);

/// The best checkpoint of a run, else its last one. `dtype`: auto (float32), float32, bfloat16 or float16. Its stop
/// token is the task's end_token(), if it has one. Needs the task's files. Throws UsageError for other dtypes, Error
/// for a run without a checkpoint.
PublicModel load_run(const std::string& folder, const std::string& dtype);

/// How a run on the task `text` or `jsonl` encodes text: bytes or its tiktoken.model. None for other tasks. Needs the
/// task's files.
std::optional<Tokenizer> tokenizer_of_run(const std::string& folder);

/// The token that precedes every document in training, if the task is `text`.
std::optional<int64_t> document_start(const std::string& folder);

}  // namespace klab
