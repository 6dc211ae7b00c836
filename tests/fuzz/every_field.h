// SPDX-License-Identifier: Apache-2.0
// A config with fields of every kind.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"

namespace klab::fuzz {

struct EveryField : Configurable {
  struct Group : Configurable {
    int64_t width = 64;
    std::string name = "none";
    std::string option = "a";

    void visit(Fields& fields) override {
      fields("width", width, {1, 4096}, "an integer");
      fields.choice("name", name, {"none", "one"}, "which options there are");
      if (name == "one") fields("option", option, "exists with a name only");
    }
  };

  int64_t count = 1;
  double rate = 0.5;
  bool flag = false;
  std::string text;
  std::vector<std::string> list = {"a"};
  std::vector<Value> maps;
  Group group;

  void visit(Fields& fields) override {
    fields("count", count, {0, int64_t{1} << 40}, "an integer");
    fields("rate", rate, {0.0, 1e9, Ends::above_least}, "a number");
    fields("flag", flag, "a boolean");
    fields("text", text, "a text");
    fields("list", list, "a list");
    fields.maps("maps", maps, "a list of maps");
    fields.group("group", group);
    fields.renamed("number", "count");
  }
};

/// Sets the fields; the config's YAML and its values must be read as the same config.
void expect_same_after_writing(const std::vector<Assignment>& assignments);

}  // namespace klab::fuzz
