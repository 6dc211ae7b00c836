// SPDX-License-Identifier: Apache-2.0
#include "core/model/pattern.h"

#include <charconv>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {
namespace {

constexpr int64_t kMostLayers = 10'000;

int64_t number(const std::string& text, const std::string& item, int64_t least) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > kMostLayers) {
    refuse("'{}' in '{}' must be a whole number from {} to {}", text, item, least, kMostLayers);
  }
  return value;
}

}  // namespace

std::vector<HeadShare> parse_heads(const std::string& item) {
  if (item.empty())
    refuse("model.pattern: an item has no mixer name; valid items are 'kda', 'kda*3' and 'kda:3+mla:1'");
  std::vector<HeadShare> shares;
  for (const std::string& part : split(item, '+')) {
    const size_t colon = part.find(':');
    shares.push_back({part.substr(0, colon), colon == std::string::npos ? 0 : number(part.substr(colon + 1), item, 1)});
    if (shares.back().mixer.empty()) {
      refuse("model.pattern: '{}' has no mixer name; valid items are 'kda', 'kda*3' and 'kda:3+mla:1'", item);
    }
    if ((shares.front().heads == 0) != (shares.back().heads == 0)) {
      refuse("model.pattern: '{}' gives a number of heads for some mixers only; give it for all, or for none", item);
    }
  }
  if (shares.size() == 1 && shares.front().heads != 0) {
    refuse("model.pattern: '{}' is a single mixer, which has all heads: write '{}'", item, shares.front().mixer);
  }
  return shares;
}

std::vector<std::string> expand_pattern(const std::vector<std::string>& pattern) {
  std::vector<std::string> items;
  for (const std::string& item : pattern) {
    const size_t star = item.find('*');
    const int64_t times = star == std::string::npos ? 1 : number(item.substr(star + 1), item, 1);
    items.insert(items.end(), static_cast<size_t>(times), item.substr(0, star));
  }
  return items;
}

std::vector<int64_t> parse_ratio(const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() != 2) refuse("model.ratio = {} must be two numbers, such as 3:1, or none", text);
  const std::vector<int64_t> ratio{number(parts[0], text, 0), number(parts[1], text, 0)};
  if (ratio[0] + ratio[1] == 0) refuse("model.ratio = {} leaves no layer", text);
  return ratio;
}

}  // namespace klab
