// One description per config struct: `visit` names each field once, with its range and help, and from that come the
// command-line flags, YAML and JSON, the help text, the list of known keys, equality and the hash that is a run's id.
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

/// The value of a field: true or false, an integer, a number, a text, a list of texts, or a list of maps.
using Value = nlohmann::ordered_json;

/// How a value is written on a command line, in YAML and in tables: 0.003, kda, [kda, mla], [{length: 256}].
std::string text_of(const Value& value);

/// A config struct. `visit` may depend on values already set (a task's options depend on the task's name).
struct Configurable {
  virtual ~Configurable() = default;
  virtual void visit(Fields& fields) = 0;
  /// Throws UsageError for combinations of values that make no sense; each value alone is checked when it is set.
  virtual void validate() const {}
};

/// A config struct of any type, held by value: a copy is deep. (The options of a task or mixer chosen by name.)
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

/// The numbers that a field may have, both ends included unless `ends` says otherwise.
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
  /// Takes a value of the field's type, or a text from a command line or YAML that says one. A list as text is written
  /// "[a, b]" or "a, b" as in YAML. Throws UsageError that says what the value must be ("must be an integer").
  std::function<void(const Value&)> set;
  std::function<Value()> get;
};

/// Collects the fields of a config, groups included.
class Fields {
 public:
  static Fields of(const Configurable& config);

  void operator()(const std::string& name, int64_t& value, Range<int64_t> range, const std::string& help);
  void operator()(const std::string& name, double& value, Range<double> range, const std::string& help);
  void operator()(const std::string& name, bool& value, const std::string& help);
  void operator()(const std::string& name, std::string& value, const std::string& help);
  /// A list of at least one text.
  void operator()(const std::string& name, std::vector<std::string>& value, const std::string& help);
  /// A list, perhaps empty, of maps from keys to values.
  void maps(const std::string& name, std::vector<Value>& value, const std::string& help);
  /// One of `choices`, anything else is refused.
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
              const std::string& help);
  /// The fields of another config under `name.`.
  void group(const std::string& name, Configurable& config);
  /// The field `name` was called `old_name` in earlier versions; assign() says so when the old key is used.
  void renamed(const std::string& old_name, const std::string& name);

  const std::vector<Field>& all() const { return fields_; }
  std::vector<std::string> keys() const;
  /// Old keys and their new ones.
  const std::map<std::string, std::string>& renamed_keys() const { return renamed_; }
  /// The field of that key, null when there is none.
  const Field* find(const std::string& key) const;

 private:
  void add(const std::string& name, std::string type, const std::string& help, std::function<void(const Value&)> set,
           std::function<Value()> get);

  std::string prefix_;
  std::vector<Field> fields_;
  std::map<std::string, std::string> renamed_;
};

/// One value that somebody asked for, and where.
struct Assignment {
  std::string key;
  Value value;
  std::string origin;  ///< "run.yaml, line 3" or "command line"
};

/// Sets every field that is named, in any order; the last of several values for a key counts. Throws
/// UsageError for a key that the config, once all names are set, does not know (with the nearest known one or its new
/// name), and for a wrong value.
void assign(Configurable& config, const std::vector<Assignment>& assignments);

/// Throws UsageError for a value that its field does not allow; a struct's members can be set without their fields.
void check_values(const Configurable& config);

/// Every field's value by its key, in `visit` order.
std::vector<std::pair<std::string, Value>> values_of(const Configurable& config);

/// The whole config as YAML or JSON text, every field in `visit` order.
std::string to_yaml(const Configurable& config);
std::string to_json(const Configurable& config);

/// 16 hexadecimal digits that depend on every field and its value.
std::string config_hash(const Configurable& config);

/// Throws UsageError "<key> = <value> <must>", for example "train.lr = -1 must be positive".
void require(bool holds, const std::string& key, const std::string& value, const std::string& must);

}  // namespace klab
