// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/gather_tensors.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace klab {
namespace {

using at::Tensor;
using Json = nlohmann::ordered_json;

Json describe(const std::string& name, const Tensor& tensor) {
  return {{"name", name}, {"type", static_cast<int>(tensor.scalar_type())}, {"shape", tensor.sizes().vec()}};
}

int64_t bytes_of(const Json& one) {
  int64_t bytes = c10::elementSize(static_cast<at::ScalarType>(one.at("type").get<int>()));
  for (const int64_t size : one.at("shape").get<std::vector<int64_t>>()) bytes *= size;
  return bytes;
}

Tensor flat(const Tensor& tensor) { return tensor.cpu().contiguous().reshape({-1}).view(at::kByte); }

}  // namespace

std::map<std::string, Tensor> gather_tensors(RankGroup& ranks, const std::map<std::string, Tensor>& own) {
  if (ranks.alone()) return own;
  const c10::AutoGradMode no_grad(false);
  Json described = Json::array();
  for (const auto& [name, tensor] : own) described.push_back(describe(name, tensor));
  const std::vector<std::string> texts = ranks.gather_text(described.dump());

  // Every rank knows who sends which tensors: those that no rank before it has.
  std::set<std::string> known;
  std::vector<Json> sent(texts.size(), Json::array());
  std::vector<int64_t> from_each(texts.size(), 0), to_each(texts.size(), 0);
  std::vector<Tensor> parts{at::empty({0}, at::kByte)};
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    for (const Json& one : Json::parse(texts[rank])) {
      const auto name = one.at("name").get<std::string>();
      if (!known.insert(name).second || rank == 0) continue;
      sent[rank].push_back(one);
      from_each[rank] += bytes_of(one);
      if (static_cast<int64_t>(rank) == ranks.rank()) parts.push_back(flat(own.at(name)));
    }
  }
  to_each[0] = from_each[static_cast<size_t>(ranks.rank())];
  if (!ranks.first()) std::fill(from_each.begin(), from_each.end(), 0);
  const Tensor received = ranks.exchange(at::cat(parts), to_each, from_each);
  std::map<std::string, Tensor> all = own;
  if (!ranks.first()) return all;
  int64_t begin = 0;
  for (const Json& list : sent) {
    for (const Json& one : list) {
      const auto type = static_cast<at::ScalarType>(one.at("type").get<int>());
      const auto shape = one.at("shape").get<std::vector<int64_t>>();
      const Tensor bytes = received.narrow(0, begin, bytes_of(one)).clone();  // at an address fit for its dtype
      all[one.at("name").get<std::string>()] = bytes.view(type).view(shape);
      begin += bytes_of(one);
    }
  }
  return all;
}

}  // namespace klab
