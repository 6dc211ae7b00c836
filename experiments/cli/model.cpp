// SPDX-License-Identifier: Apache-2.0
// klab model: parameters, memory and FLOPs of a config.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "core/model/accounting.h"
#include "core/model/pattern.h"
#include "core/public/public_config.h"
#include "experiments/cli/model_memory.h"
#include "experiments/command/command.h"
#include "experiments/run/dtype.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

struct ModelOptions {
  std::string config, dtype;
  bool json = false, list = false, train = false;
  int64_t length = 0, batch = 0;
  std::vector<int64_t> ranks;
  int64_t shares = 0;
  std::vector<Assignment> flags;
};

int list_mixers() {
  for (const std::string& name : mixers().names()) fmt::print("{}\n", name);
  return 0;
}

// The kernels of the mixers of a pattern item.
std::string kernels_of(const std::string& item) {
  std::string all;
  for (const HeadShare& share : parse_heads(item)) all += (all.empty() ? "" : " + ") + mixers().at(share.mixer).kernel;
  return all;
}

void print_model_json(const Accounting& sum, int64_t length, int64_t batch, const std::string& dtype) {
  const nlohmann::ordered_json json = {
      {"parameters", sum.parameters},
      {"parameters_without_embeddings", sum.parameters_without_embeddings},
      {"activated_parameters", sum.activated_parameters},
      {"activated_parameters_without_embeddings", sum.activated_parameters_without_embeddings},
      {"state_bytes", sum.state_bytes * batch},
      {"kv_cache_bytes_per_token", sum.cache_bytes_per_token},
      {"prefill_flops", sum.prefill_flops * static_cast<double>(batch)},
      {"decode_flops", sum.decode_flops * static_cast<double>(batch)},
      {"length", length},
      {"batch", batch},
      {"dtype", dtype}};
  fmt::print("{}\n", json.dump(2));
}

void print_tables(const RunConfig& config, const Decoder& model, const Accounting& sum, int64_t length, int64_t batch) {
  std::vector<std::vector<std::string>> rows;
  const std::vector<std::string> names = config.model.layer_mixers();
  for (size_t i = 0; i < model->layers().size(); ++i) {
    const DecoderLayer& layer = model->layers()[i];
    const TokenMixer& mixer = *layer->mixer();
    rows.push_back({fmt::format("{}", i), names[i], kernels_of(names[i]), fmt::format("{}", parameter_count(mixer)),
                    fmt::format("{}", parameter_count(*layer->feed_forward())),
                    fmt::format("{}", mixer.state_bytes(length)), fmt::format("{}", mixer.cache_bytes_per_token()),
                    short_count(mixer.flops(length) / static_cast<double>(length)),
                    short_count(mixer.decode_flops(length))});
  }
  fmt::print("{}\n", format_table({"layer", "mixer", "kernel", "parameters", "feed-forward", "state bytes",
                                   "cache bytes/token", "mixer FLOPs/token", "mixer FLOPs/decoded token"},
                                  rows));
  const auto sequences = fmt::format("{} sequence{}", batch, batch == 1 ? "" : "s");
  fmt::print(
      "{}",
      format_table({"whole model", ""},
                   {{"parameters", fmt::format("{}", sum.parameters)},
                    {"  without embedding and head", fmt::format("{}", sum.parameters_without_embeddings)},
                    {"activated parameters", fmt::format("{}", sum.activated_parameters)},
                    {"  without embedding and head", fmt::format("{}", sum.activated_parameters_without_embeddings)},
                    {fmt::format("state bytes of {} after {} tokens", sequences, length),
                     fmt::format("{}", sum.state_bytes * batch)},
                    {"cache bytes per token and sequence", fmt::format("{}", sum.cache_bytes_per_token)},
                    {fmt::format("FLOPs per token, prefill of {}", length),
                     short_count(sum.prefill_flops / static_cast<double>(length))},
                    {"FLOPs per decoded token", short_count(sum.decode_flops)}}));
}

// Assignments from a YAML file, a run folder, or a public config (file, folder or name).
std::vector<Assignment> assignments_of(const std::string& config) {
  namespace fs = std::filesystem;
  if (config.empty()) return {};
  const std::vector<std::string> builtin = builtin_public_configs();
  const bool named = !fs::exists(config) && std::find(builtin.begin(), builtin.end(), config) != builtin.end();
  if (named || fs::path(config).extension() == ".json" || fs::exists(fs::path(config) / "config.json")) {
    return {{"model.config", config, "command line"}};
  }
  require_input(config);
  return read_yaml(fs::is_directory(config) ? RunFolder{config}.config() : config);
}

// The dtype of the weights in a public config.json, or "".
std::string public_dtype(const std::string& config) {
  namespace fs = std::filesystem;
  if (!fs::exists(config)) return "bfloat16";  // the built-in one
  const std::string path = fs::is_directory(config) ? config + "/config.json" : config;
  const auto json = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "";
  for (const auto& object : {json, json.value("text_config", nlohmann::json::object())}) {
    for (const char* key : {"dtype", "torch_dtype"}) {
      const auto found = object.is_object() ? object.find(key) : object.end();
      if (found != object.end() && found->is_string()) return found->get<std::string>();
    }
  }
  return "";
}

// --dtype, else that of a public config, else float32.
std::string dtype_of(const ModelOptions& options, const std::vector<Assignment>& assignments) {
  std::string dtype = options.dtype;
  for (const Assignment& one : assignments) {
    if (options.dtype.empty() && one.key == "model.config") dtype = public_dtype(text_of(one.value));
  }
  if (dtype.empty()) return "float32";
  if (std::find(kDtypeNames.begin(), kDtypeNames.end(), dtype) == kDtypeNames.end()) {
    refuse("the config has dtype '{}', which is not supported: give --dtype {}", dtype, join(kDtypeNames, ", "));
  }
  return dtype;
}

// The numbers of ranks that are asked about; empty: one process.
std::vector<int64_t> ranks_of(const ModelOptions& options, const RankLayout& layout) {
  if (options.shares == 0) return options.ranks;
  const int64_t ranks = options.shares * layout.context;
  for (const int64_t one : options.ranks) {
    require(one == ranks, "--ranks", fmt::format("{}", one),
            fmt::format("must be {}, --dp {} times --cp {}", ranks, options.shares, layout.context));
  }
  return {ranks};
}

int show_model(const ModelOptions& options, const Globals& globals) {
  const std::vector<int64_t> ranks = ranks_of(options, globals.layout);
  const bool train = options.train || !ranks.empty();
  if (train && (options.length > 0 || options.batch > 0 || !options.dtype.empty())) {
    refuse(
        "--train and --ranks use the keys task.length, train.batch and train.dtype, not --length, --batch and --dtype");
  }
  std::vector<Assignment> assignments = assignments_of(options.config);
  const bool is_public = !assignments.empty() && assignments.front().key == "model.config";
  assignments.insert(assignments.end(), options.flags.begin(), options.flags.end());
  const RunConfig config = assigned_run_config(assignments);
  if (is_public) {
    config.model.validate();  // a public config has no task
  } else {
    config.validate();
  }
  if (!ranks.empty()) return show_ranks(config, ranks, options.json, globals);
  if (globals.layout.context > 1 || globals.layout.experts > 1 || globals.layout.zero || !globals.out.empty()) {
    refuse("--cp, --ep, --zero and --out need --ranks or --dp");
  }
  if (train) return show_memory(config, options.json);
  const std::string dtype = dtype_of(options, assignments);
  const ParameterPlace nowhere(torch::kMeta, dtype_named(dtype));  // no parameters are allocated
  const Decoder model = make_model(config);
  const int64_t length = options.length > 0 ? options.length : config.task.length;
  const int64_t batch = std::max<int64_t>(1, options.batch);
  const Accounting sum = account(model, length);
  if (options.json) {
    print_model_json(sum, length, batch, dtype);
  } else {
    print_tables(config, model, sum, length, batch);
  }
  return 0;
}

}  // namespace

Command model_command() {
  return {"model", "parameters, activated parameters, state and cache bytes, FLOPs of a config",
          "./klab model --model.pattern kda,mamba2 --model.width 256 --model.head_dim 128 --length 1024",
          takes::layout | takes::out, [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<ModelOptions>();
            app.add_option(
                "CONFIG", options->config,
                "YAML file, run folder, public config.json or its folder, or kimi-linear-48b; flags override it");
            app.add_flag("--json", options->json, "machine-readable");
            app.add_flag("--list", options->list, "print only the names of all mixers, one per line");
            app.add_option("--length", options->length, "tokens of a sequence (default: task.length)").positive();
            app.add_option("--batch", options->batch, "sequences (default: 1)").positive();
            app.add_flag("--train", options->train,
                         "the memory that training needs instead, with the config's keys train.* and task.*");
            app.add_option("--ranks", options->ranks,
                           "the memory and the traffic of each of so many processes in training, as a model predicts "
                           "them, shared by --cp, --ep and --zero; of several numbers a table, with --out as CSV")
                .comma_separated()
                .positive();
            app.add_option("--dp", options->shares, "shares of a batch; --ranks divided by --cp").positive();
            app.add_option(
                   "--dtype", options->dtype,
                   "dtype of parameters, activations and caches; recurrent states are float32 (default: that of a "
                   "public config, else float32)")
                .one_of(kDtypeNames);
            add_run_flags(app, options->flags);
            return [options, &globals] { return options->list ? list_mixers() : show_model(*options, globals); };
          }};
}

}  // namespace klab
