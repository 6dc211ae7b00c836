// SPDX-License-Identifier: Apache-2.0
// Tensors of a run, read from a checkpoint.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <map>
#include <string>

#include "core/io/checkpoint.h"
#include "core/train/status.h"

namespace klab {

/// The parameters of a model that this process has (own_parameters) by their names in checkpoints, "model.norm.weight".
/// They share storage with the model.
std::map<std::string, torch::Tensor> model_tensors(const torch::nn::Module& model);

/// Copies the checkpoint's tensors of the same names into `wanted`, after it has checked that all of them are there and
/// have the right shapes and dtypes: otherwise throws Error that names `path` and the tensor, and changes nothing.
void copy_stored(const Checkpoint& from, const std::string& path, const std::map<std::string, torch::Tensor>& wanted);

/// Loads the checkpoint's tensors of the names in `wanted`, and the generator's state. Throws Error that names a tensor
/// "model.*" of the checkpoint which is not in `model` (more layers, another mixer).
Checkpoint load_stored(const std::string& path, const torch::nn::Module& model,
                       const std::map<std::string, torch::Tensor>& wanted);

/// Runs `action` with the model's parameters replaced by those of the checkpoint at `path`, and restores them.
void with_parameters_of(const std::string& path, const torch::nn::Module& model,
                        const std::function<void(const Checkpoint&)>& action);

/// Stores the progress of a run in a checkpoint's fields, with the number of threads, and reads it back: its step,
/// seconds, and evaluations. Throws Error for a missing or malformed field.
void store_progress(const TrainStatus& status, Checkpoint& checkpoint);
void restore_progress(const Checkpoint& from, TrainStatus& status);

/// A checkpoint that a run starts from.
struct StartCheckpoint {
  std::string path;
  Checkpoint checkpoint;
};

/// Loads the parameters that `train.from` names into `model`: a checkpoint file, or a run folder's last one. The result
/// has the tensors of the names in `wanted`. Throws Error, before any change, if it is missing, damaged or of another
/// model.
StartCheckpoint load_start(const std::string& from, const torch::nn::Module& model,
                           const std::map<std::string, torch::Tensor>& wanted);

}  // namespace klab
