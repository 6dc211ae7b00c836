// SPDX-License-Identifier: Apache-2.0
// What klab knows of a family of public checkpoints: its config fields, and the names and shapes of its tensors.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/public/public_config.h"

namespace klab {

/// Rows [begin, begin + rows) of a tensor's first dimension.
struct RowRange {
  int64_t begin, rows;
};

/// The location of a parameter in a checkpoint: a tensor, or one item of its first dimension (`item` >= 0), and of that
/// some ranges of rows, one after the other (none: all rows).
struct TensorPlace {
  std::string name;
  std::vector<int64_t> shape;       ///< of the parameter in written files; others with the same numbers are read too
  int64_t item = -1;                ///< only read, not written
  std::vector<RowRange> rows = {};  ///< together as many as the parameter has
  double offset = 0;                ///< the parameter is the stored number plus this
  int64_t padded = 0;              ///< of a vector: the tensor may have this many numbers, the last ones zeros; 0: none
  std::vector<int64_t> also = {};  ///< another shape that is read
};

/// A tensor of a layout that the model does not use: it is read past, and written with this value.
struct SpareTensor {
  std::string name;
  std::vector<int64_t> shape;
  double value = 0;
};

/// A new family is one class like this, and a line in families.cpp.
class Family {
 public:
  using Json = nlohmann::ordered_json;

  virtual ~Family() = default;

  /// Name in messages: "Kimi Linear".
  virtual std::string name() const = 0;
  /// Whether a config.json belongs to this family.
  virtual bool reads(const Json& json) const = 0;
  /// `origin`: the file's name in messages. Throws UsageError as parse_public_config().
  virtual PublicConfig read(const Json& json, const std::string& origin) const = 0;
  /// Texts of built-in configs by name.
  virtual std::map<std::string, std::string> builtin() const { return {}; }

  /// Whether models with these mixers and parts are written in this layout.
  virtual bool writes(const ModelConfig& config) const = 0;
  /// The options that the layout expresses, or that only training needs, as keys without "model.".
  virtual std::set<std::string> expressed() const = 0;
  /// Values that the layout implies, where they are not klab's defaults. Keys of mixers that the model does not have
  /// are ignored.
  virtual std::vector<Assignment> implied(const ModelConfig&) const { return {}; }
  /// The fields of the config.json.
  virtual Json fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                      const std::string& dtype) const = 0;

  /// The locations of a decoder's parameter ("layer3.mixer.q_conv.weight"), of this shape, under names without prefix.
  /// The first one is used for writing. Throws Error for a parameter without a name in the layout.
  virtual std::vector<TensorPlace> places(const ModelConfig& config, const std::string& parameter,
                                          const std::vector<int64_t>& shape) const = 0;
  virtual std::vector<SpareTensor> spare(const ModelConfig&) const { return {}; }
  /// Beginnings of tensor names in files that contain more than the text model, and what replaces them.
  virtual std::vector<std::pair<std::string, std::string>> prefixes() const { return {}; }
  /// Whether the reader skips the tensor, such as layers for multi-token prediction and vision towers.
  virtual bool passes_over(const std::string& tensor) const = 0;
};

/// All families.
const std::vector<const Family*>& families();

/// The family in whose layout the model is written. Throws UsageError for a model that no layout has.
const Family& family_of(const ModelConfig& config);

}  // namespace klab
