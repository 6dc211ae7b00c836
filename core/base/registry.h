// SPDX-License-Identifier: Apache-2.0
// An explicit list of named entries, without registration by static initialisers.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {

/// A list of entries, each with a member `std::string name`. Errors for unknown names list the known ones.
template <class Entry>
class Registry {
 public:
  /// `kind` is the word used in messages: "mixer", "task".
  Registry(std::string kind, std::vector<Entry> entries) : kind_(std::move(kind)), entries_(std::move(entries)) {}

  const std::vector<Entry>& entries() const { return entries_; }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Entry& entry : entries_) names.push_back(entry.name);
    return names;
  }

  /// Throws UsageError that lists the known names.
  const Entry& at(const std::string& name) const {
    for (const Entry& entry : entries_) {
      if (entry.name == name) return entry;
    }
    refuse("unknown {} '{}'{} Known: {}", kind_, name,
           nearest(name, names()).empty() ? "." : did_you_mean(name, names()), join(names()));
  }

 private:
  std::string kind_;
  std::vector<Entry> entries_;
};

}  // namespace klab
