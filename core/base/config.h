// One description per config struct: `visit` names each field once, and from that come the command-line
// flags, YAML and JSON, the help text, the list of known keys, equality and the hash that is a run's id.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace klab {

class Fields;

/// A config struct. `visit` may depend on values already set (a task's options depend on the task's name).
struct Configurable {
  virtual ~Configurable() = default;
  virtual void visit(Fields& fields) = 0;
  /// Throws UsageError for values that are well-formed and make no sense.
  virtual void validate() const {}
};

/// One field of a config, by its dotted key, as text. A list is written "[a, b]" or "a,b" and has at
/// least one item, unless its field says otherwise ("[]"); an item with a comma or outer blanks stands in double
/// quotes.
struct Field {
  std::string key;
  std::string type;  ///< "integer", "number", "true or false", "text", "list of text", ...
  std::string help;
  std::function<void(const std::string&)> set;  ///< throws UsageError that says what would be right
  std::function<std::string()> get;
};

/// Collects the fields of a config, groups included.
class Fields {
 public:
  static Fields of(Configurable& config);

  void operator()(const std::string& name, int64_t& value, const std::string& help);
  void operator()(const std::string& name, double& value, const std::string& help);
  void operator()(const std::string& name, bool& value, const std::string& help);
  void operator()(const std::string& name, std::string& value, const std::string& help);
  void operator()(const std::string& name, std::vector<std::string>& value, const std::string& help,
                  bool may_be_empty = false);
  /// One of `choices`, anything else is refused.
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
              const std::string& help);
  /// The fields of another config under `name.`.
  void group(const std::string& name, Configurable& config);

  const std::vector<Field>& all() const { return fields_; }
  std::vector<std::string> keys() const;

 private:
  void add(const std::string& name, std::string type, const std::string& help,
           std::function<void(const std::string&)> set, std::function<std::string()> get);

  std::string prefix_;
  std::vector<Field> fields_;
};

/// The text of a list field.
std::string list_text(const std::vector<std::string>& items);

/// One value that somebody asked for, and where.
struct Assignment {
  std::string key;
  std::string text;
  std::string origin;  ///< "run.yaml, line 3" or "command line"
};

/// Sets every field that is named, in any order; the last of several values for a key counts. Throws
/// UsageError for a key that the config, once all names are set, does not know (with the nearest known one),
/// and for a wrong value.
void assign(Configurable& config, const std::vector<Assignment>& assignments);

/// Gives `to` every value of `from`, a config of the same kind. Configurables cannot be cloned, but their fields are
/// all that they are, and the fields' text loses nothing.
void copy_fields(Configurable& from, Configurable& to);

/// The assignments of a YAML file. With a key `extends: other.yaml` (relative to the file) those of the other file come
/// first, so that this one is a delta over it. Throws Error when a file cannot be read, UsageError when it is not a map
/// of scalars, lists and maps, names a key twice, or extends itself.
std::vector<Assignment> read_yaml(const std::string& path);

/// The whole config as YAML or JSON text, every field in `visit` order.
std::string to_yaml(Configurable& config);
std::string to_json(Configurable& config);

/// 16 hexadecimal digits that depend on every field and its value.
std::string config_hash(Configurable& config);

/// Throws UsageError "<key> = <value> <must>", for example "train.lr = -1 must be positive".
void require(bool holds, const std::string& key, const std::string& value, const std::string& must);

}  // namespace klab
