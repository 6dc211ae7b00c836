// SPDX-License-Identifier: Apache-2.0
// klab export: writes a trained model in the public layout.
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/public/checkpoint.h"
#include "experiments/command/command.h"
#include "experiments/run/dtype.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kGigabyte = 1'000'000'000;

struct ExportOptions {
  std::string run, checkpoint = "last", dtype = "float32";
  double shard_gigabytes = 5;
};

int export_run(const ExportOptions& options, const Globals& globals) {
  if (globals.out.empty()) refuse("--out is missing: the folder for config.json and the weights");
  const RunFolder folder{options.run};
  const RunConfig config = read_run_config(folder);
  if (fs::exists(fs::path(globals.out) / "config.json")) {
    refuse("'{}' already contains a model; choose another --out", globals.out);
  }
  const Decoder model = make_model(config);
  load_parameters(options.checkpoint == "best" ? folder.best() : folder.last(), model);
  const auto shard_bytes = static_cast<uint64_t>(options.shard_gigabytes * static_cast<double>(kGigabyte));
  save_public(globals.out, config.model, model, PublicTokens{}, dtype_named(options.dtype), shard_bytes);
  fmt::print("{} parameters in the public layout, {}: {}\n", parameter_count(*model), options.dtype, globals.out);
  return 0;
}

}  // namespace

Command export_command() {
  return {"export", "write a trained model in the layout of a public family, as config.json and safetensors",
          "./klab export runs/first --out exported", takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<ExportOptions>();
            app.add_option("RUNDIR", options->run, "folder of the run").required();
            app.add_option("--checkpoint", options->checkpoint, "checkpoint of the run")
                .one_of({"last", "best"})
                .show_default();
            app.add_option("--dtype", options->dtype, "dtype of the weights; decay parameters stay float32")
                .one_of(kDtypeNames)
                .show_default();
            app.add_option("--shard-gigabytes", options->shard_gigabytes,
                           "maximum file size; larger models are split into shards")
                .positive()
                .show_default();
            return [options, &globals] { return export_run(*options, globals); };
          }};
}

}  // namespace klab
