// SPDX-License-Identifier: Apache-2.0
// The list of families.
#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/public/family.h"
#include "core/public/kimi_k3.h"
#include "core/public/kimi_linear.h"
#include "core/public/qwen.h"

namespace klab {

const std::vector<const Family*>& families() {
  static const KimiLinear kimi_linear;
  static const KimiK3 kimi_k3;
  static const Qwen qwen;
  static const std::vector<const Family*> all = {&kimi_k3, &kimi_linear, &qwen};
  return all;
}

const Family& family_of(const ModelConfig& config) {
  for (const Family* family : families()) {
    if (family->writes(config)) return *family;
  }
  std::vector<std::string> items = config.layer_mixers(), names;
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  for (const Family* family : families()) names.push_back(family->name());
  refuse("model.pattern: no public layout has the layers {} in one model; there are those of {}", join(items),
         join(names));
}

}  // namespace klab
