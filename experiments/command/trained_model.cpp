// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/trained_model.h"

#include <torch/nn/module.h>

#include <filesystem>

#include "core/base/error.h"
#include "experiments/run/dtype.h"
#include "experiments/run/run.h"
#include "tasks/encoding.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

Tokenizer byte_tokenizer(const Task& task) {
  constexpr int64_t kBytes = 256;
  std::map<std::string, int64_t> ranks;
  for (int64_t byte = 0; byte < kBytes; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  std::map<std::string, int64_t> special;
  for (int64_t id = kBytes; id < task.vocabulary(); ++id) special[task.token_name(id)] = id;
  return {std::move(ranks), std::move(special)};
}

}  // namespace

bool is_run(const std::string& folder) { return fs::exists(RunFolder{folder}.config()); }

PublicModel load_run(const std::string& folder, const std::string& dtype) {
  const RunFolder run{folder};
  if (dtype == "int8") refuse("--dtype int8 needs a public checkpoint: klab export '{}' writes one", folder);
  const std::string checkpoint = fs::exists(run.best()) ? run.best() : run.last();
  if (!fs::exists(checkpoint)) fail("'{}' has no checkpoint yet", folder);
  const RunConfig config = read_run_config(run);
  const ParameterPlace place(torch::kCPU, dtype_named(dtype));
  PublicModel loaded{config.model, {}, make_model(config), 0, 0};
  load_parameters(checkpoint, loaded.model);
  for (const torch::Tensor& parameter : loaded.model->parameters()) loaded.weight_bytes += parameter.nbytes();
  if (const auto end = config.task.make()->end_token()) loaded.tokens.stop = {*end};
  return loaded;
}

std::optional<Tokenizer> tokenizer_of_run(const std::string& folder) {
  RunConfig config = read_run_config({folder});
  const Fields fields = Fields::of(config);
  const Field* tokenizer = fields.find("task." + config.task.name + ".tokenizer");
  if (tokenizer == nullptr) return std::nullopt;
  const auto kind = tokenizer->get().get<std::string>();
  return kind == "bytes" ? byte_tokenizer(*config.task.make()) : Tokenizer::load(tokenizer_folder(kind));
}

std::optional<int64_t> document_start(const std::string& folder) {
  if (!is_run(folder)) return std::nullopt;
  const RunConfig config = read_run_config({folder});
  return config.task.name == "text" ? config.task.make()->end_token() : std::nullopt;
}

}  // namespace klab
