// SPDX-License-Identifier: Apache-2.0
// One description per config struct: `visit` declares each field once, with its range and help. Command-line flags,
// YAML and JSON, help texts, the list of known keys, equality and the hash that identifies a run are derived from it.
#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace klab {

class Fields;

/// The value of a field: a boolean, an integer, a number, a string, a list of strings, or a list of maps.
using Value = nlohmann::ordered_json;

/// A value as text, as on a command line, in YAML and in tables: 0.003, kda, [kda, mla], [{length: 256}].
std::string text_of(const Value& value);

/// A config struct. `visit` may depend on values already set (a task's options depend on the task's name).
struct Configurable {
  virtual ~Configurable() = default;
  virtual void visit(Fields& fields) = 0;
  /// Throws UsageError for invalid combinations of values; each single value is checked when it is set.
  virtual void validate() const {}
};

/// A config struct of any type, held by value, with deep copies: the options of a task or mixer chosen by name.
class AnyConfig {
 public:
  template <class Config>
  explicit AnyConfig(Config config)
      : config_(std::move(config)),
        open_([](std::any& any) -> Configurable& { return *std::any_cast<Config>(&any); }) {}

  Configurable& get() { return open_(config_); }
  /// Throws std::bad_any_cast unless it was made from a `Config`.
  template <class Config>
  const Config& as() const {
    return std::any_cast<const Config&>(config_);
  }

 private:
  std::any config_;
  Configurable& (*open_)(std::any&);
};

/// The allowed numbers of a field; both ends are included unless `ends` excludes one.
enum class Ends { included, above_least, below_most };
template <class Number>
struct Range {
  Number least, most;
  Ends ends = Ends::included;

  bool contains(Number x) const {
    return (ends == Ends::above_least ? x > least : x >= least) && (ends == Ends::below_most ? x < most : x <= most);
  }
};

/// One field of a config by its dotted key.
struct Field {
  std::string key;
  std::string type;  ///< "integer in [1, 4096]", "true or false", "text", "list of text", ...
  std::string help;
  /// Accepts a value of the field's type, or its text from a command line or YAML. The text of a list is "[a, b]" or
  /// "a, b", as in YAML. Throws UsageError with the requirement ("must be an integer").
  std::function<void(const Value&)> set;
  std::function<Value()> get;
};

/// Collects the fields of a config, including its groups.
class Fields {
 public:
  static Fields of(const Configurable& config);

  void operator()(const std::string& name, int64_t& value, Range<int64_t> range, const std::string& help);
  void operator()(const std::string& name, double& value, Range<double> range, const std::string& help);
  void operator()(const std::string& name, bool& value, const std::string& help);
  void operator()(const std::string& name, std::string& value, const std::string& help);
  /// A list of at least one string.
  void operator()(const std::string& name, std::vector<std::string>& value, const std::string& help);
  /// A possibly empty list of maps from keys to values.
  void maps(const std::string& name, std::vector<Value>& value, const std::string& help);
  /// One of `choices`.
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
              const std::string& help);
  /// The fields of another config under `name.`.
  void group(const std::string& name, Configurable& config);
  /// The field `name` was called `old_name` in earlier versions; the error of assign() for the old key has the new one.
  void renamed(const std::string& old_name, const std::string& name);

  const std::vector<Field>& all() const { return fields_; }
  std::vector<std::string> keys() const;
  /// Maps old keys to new ones.
  const std::map<std::string, std::string>& renamed_keys() const { return renamed_; }
  /// The field with that key, or null.
  const Field* find(const std::string& key) const;

 private:
  void add(const std::string& name, std::string type, const std::string& help, std::function<void(const Value&)> set,
           std::function<Value()> get);

  std::string prefix_;
  std::vector<Field> fields_;
  std::map<std::string, std::string> renamed_;
};

/// A value for a key, and its origin for messages.
struct Assignment {
  std::string key;
  Value value;
  std::string origin;  ///< "run.yaml, line 3" or "command line"
};

/// Sets all assigned fields, in any order; the last of several values for a key is used. Throws UsageError for a key
/// that is unknown after all names are set (with the nearest known key, or its new name), and for an invalid value.
void assign(Configurable& config, const std::vector<Assignment>& assignments);

/// Throws UsageError for a value that its field does not allow, for configs whose members were set directly.
void check_values(const Configurable& config);

/// Every field's value by its key, in `visit` order.
std::vector<std::pair<std::string, Value>> values_of(const Configurable& config);

/// The whole config as YAML or JSON text, all fields in `visit` order.
std::string to_yaml(const Configurable& config);
std::string to_json(const Configurable& config);

/// 16 hexadecimal digits that depend on every field and its value.
std::string config_hash(const Configurable& config);

/// Throws UsageError "<key> = <value> <must>", for example "train.lr = -1 must be positive".
void require(bool holds, const std::string& key, const std::string& value, const std::string& must);

}  // namespace klab
