// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/trained_model.h"

#include <torch/nn/module.h>

#include <filesystem>

#include "core/base/error.h"
#include "experiments/run/dtype.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// The end of documents of the task `text` is its last token.
std::optional<int64_t> end_of_documents(const RunConfig& config) {
  if (config.task.name != "text") return std::nullopt;
  return config.task_vocabulary() - 1;
}

Tokenizer byte_tokenizer() {
  constexpr int64_t kBytes = 256;
  std::map<std::string, int64_t> ranks;
  for (int64_t byte = 0; byte < kBytes; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  return {std::move(ranks), {{"<end>", kBytes}}};
}

}  // namespace

bool is_run(const std::string& folder) { return fs::exists(RunFolder{folder}.config()); }

KimiModel load_run(const std::string& folder, const std::string& dtype) {
  const RunFolder run{folder};
  if (dtype == "int8") refuse("--dtype int8 needs a public checkpoint: klab export '{}' writes one", folder);
  const std::string checkpoint = fs::exists(run.best()) ? run.best() : run.last();
  if (!fs::exists(checkpoint)) fail("'{}' has no checkpoint yet", folder);
  const RunConfig config = read_run_config(run);
  const ParameterPlace place(torch::kCPU, dtype_named(dtype));
  KimiModel loaded{config.model, {}, make_model(config), 0, 0};
  load_parameters(checkpoint, loaded.model);
  for (const torch::Tensor& parameter : loaded.model->parameters()) loaded.weight_bytes += parameter.nbytes();
  if (const auto end = end_of_documents(config)) loaded.tokens.stop = {*end};
  return loaded;
}

std::optional<Tokenizer> tokenizer_of_run(const std::string& folder) {
  const RunConfig config = read_run_config({folder});
  if (config.task.name != "text") return std::nullopt;
  RunConfig copy = config;
  const std::string kind = Fields::of(copy).find("task.text.tokenizer")->get().get<std::string>();
  return kind == "bytes" ? byte_tokenizer() : Tokenizer::load(fs::path(kind).parent_path().string());
}

std::optional<int64_t> document_start(const std::string& folder) {
  return is_run(folder) ? end_of_documents(read_run_config({folder})) : std::nullopt;
}

}  // namespace klab
