// SPDX-License-Identifier: Apache-2.0
#include "core/public/public_config.h"

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/text.h"
#include "core/public/config_reader.h"
#include "core/public/family.h"

namespace klab {
namespace {

using Json = nlohmann::ordered_json;

Json parse_object(const std::string& text, const std::string& origin) {
  Json json;
  try {
    json = parse_json(text, origin);
  } catch (const Error& error) {
    refuse("{}", error.what());
  }
  if (!json.is_object()) refuse("{}: must be a JSON object", origin);
  return json;
}

// `config` with these values, except for keys that it does not have.
ModelConfig changed(ModelConfig config, const std::vector<Assignment>& values) {
  Fields fields;
  config.visit(fields);
  for (const Assignment& one : values) {
    if (const Field* field = fields.find(one.key)) field->set(one.value);
  }
  return config;
}

// Options without a field in the layout must have the values that it implies.
void check_expressible(const ModelConfig& config, const Family& family) {
  ModelConfig plain(config.registry());
  plain.pattern = config.pattern;
  plain.last_layer = config.last_layer;
  const std::set<std::string> expressed = family.expressed();
  const auto given = values_of(config), usual = values_of(changed(plain, family.implied(config)));
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& [key, value] = given[i];
    if (expressed.count(key) == 0 && value != usual.at(i).second) {
      refuse("model.{} = {}: the public layout of {} cannot express it; it implies {}", key, text_of(value),
             family.name(), text_of(usual.at(i).second));
    }
  }
}

}  // namespace

PublicConfig parse_public_config(const std::string& text, const std::string& origin) {
  const Json json = parse_object(text, origin);
  std::vector<std::string> names;
  for (const Family* family : families()) {
    names.push_back(family->name());
    if (!family->reads(json)) continue;
    PublicConfig config = family->read(json, origin);
    config.family = family;
    return config;
  }
  refuse("{}: model_type = {}: klab reads checkpoints of {} only", origin, json.value("model_type", Json()).dump(),
         join(names));
}

std::vector<std::string> builtin_public_configs() {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    for (const auto& [name, text] : family->builtin()) names.push_back(name);
  }
  return names;
}

PublicConfig read_public_config(const std::string& path_or_name) {
  namespace fs = std::filesystem;
  if (!fs::exists(path_or_name)) {
    for (const Family* family : families()) {
      const auto all = family->builtin();
      if (const auto found = all.find(path_or_name); found != all.end()) {
        return parse_public_config(found->second, path_or_name);
      }
    }
    fail("there is no config '{}': neither a file, nor a folder with a config.json, nor the built-in {}", path_or_name,
         join(builtin_public_configs()));
  }
  const bool folder = fs::is_directory(path_or_name);
  const std::string path = folder ? (fs::path(path_or_name) / "config.json").string() : path_or_name;
  PublicConfig config = parse_public_config(read_file(path), path);
  const std::string generation = (fs::path(path).parent_path() / "generation_config.json").string();
  if (folder && fs::exists(generation)) {
    const Json json = parse_object(read_file(generation), generation);
    for (const int64_t id : token_ids(json.value("eos_token_id", Json()), generation + ": eos_token_id")) {
      std::vector<int64_t>& stop = config.tokens.stop;
      if (std::find(stop.begin(), stop.end(), id) == stop.end()) stop.push_back(id);
    }
  }
  return config;
}

ModelConfig model_config(const PublicConfig& config, const Registry<MixerEntry>& mixers) {
  struct Root : Configurable {
    explicit Root(const Registry<MixerEntry>& known) : model(known) {}
    void visit(Fields& fields) override { fields.group("model", model); }
    void validate() const override { model.validate(); }
    ModelConfig model;
  } root(mixers);
  assign(root, config.model);
  root.validate();
  return root.model;
}

std::string public_config_text(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                               const std::string& dtype) {
  const Family& family = family_of(config);
  check_expressible(config, family);
  return family.fields(config, model, tokens, dtype).dump(2) + "\n";
}

}  // namespace klab
