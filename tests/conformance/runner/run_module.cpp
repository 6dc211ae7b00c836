// SPDX-License-Identifier: Apache-2.0
// Runs one mixer, or one mixture of experts, on the tensors of a file, so that the Python tests can compare it with
// public code:
//     run_module IN.safetensors OUT.safetensors
// IN: metadata `module` (a mixer's name, or moe), `width`, `heads`, `head_dim` (for moe: the width of experts) and
// `option.KEY`; tensors `x` [B, T, D], `param.NAME` for every parameter, and optionally `cu_seqlens` and `dy`, the
// gradient of y. OUT: `y`, and with `dy` the gradients `d_x` and `d_param.NAME`. All in the dtype of x.
//     run_module --parameters IN.safetensors
// prints the parameters, one per line: name and sizes.
#include <fmt/format.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/safetensors.h"
#include "core/model/feed_forward.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using torch::Tensor;

const std::string& entry(const Safetensors& in, const std::string& name) {
  const auto found = in.metadata.find(name);
  if (found == in.metadata.end()) fail("the input has no metadata '{}'", name);
  return found->second;
}

std::vector<Assignment> options_of(const Safetensors& in) {
  const std::string prefix = "option.";
  std::vector<Assignment> options;
  for (const auto& [key, value] : in.metadata) {
    if (key.rfind(prefix, 0) == 0) options.push_back({key.substr(prefix.size()), value, "input"});
  }
  return options;
}

// The module, and a function that calls it.
struct Subject {
  std::shared_ptr<torch::nn::Module> module;
  std::function<Tensor(const Tensor& x, const Tensor& cu_seqlens)> call;
};

Subject make(const Safetensors& in) {
  const auto number = [&](const char* name) { return std::stoll(entry(in, name)); };
  if (entry(in, "module") == "moe") {
    MoeConfig config;
    assign(config, options_of(in));
    config.validate();
    const auto moe = std::make_shared<MixtureOfExperts>(number("width"), number("head_dim"), config);
    return {moe, [moe](const Tensor& x, const Tensor&) { return moe->forward(x); }};
  }
  const MixerEntry& found = mixers().at(entry(in, "module"));
  AnyConfig options = found.options;
  assign(options.get(), options_of(in));
  const auto mixer = found.make({number("width"), number("heads"), number("head_dim")}, options);
  return {mixer, [mixer](const Tensor& x, const Tensor& cu) { return mixer->forward(x, {cu}, nullptr); }};
}

int print_parameters(const std::string& path) {
  const Subject subject = make(decode_safetensors(read_file(path), path));
  for (const auto& item : subject.module->named_parameters()) {
    fmt::print("{}", item.key());
    for (const int64_t size : item.value().sizes()) fmt::print(" {}", size);
    fmt::print("\n");
  }
  return 0;
}

void run(const std::string& from, const std::string& to) {
  const Safetensors in = decode_safetensors(read_file(from), from);
  const auto tensor = [&](const std::string& name) {
    const auto found = in.tensors.find(name);
    return found == in.tensors.end() ? Tensor() : found->second;
  };
  const Tensor x = tensor("x").clone().requires_grad_(), dy = tensor("dy");
  const Subject subject = make(in);
  subject.module->to(x.scalar_type());
  for (auto& item : subject.module->named_parameters()) {
    const torch::NoGradGuard no_grad;
    const Tensor given = tensor("param." + item.key());
    if (!given.defined()) fail("the input has no tensor 'param.{}'", item.key());
    if (given.sizes() != item.value().sizes()) fail("'param.{}' has another shape than the module's", item.key());
    item.value().copy_(given);
  }
  const Tensor y = subject.call(x, tensor("cu_seqlens"));
  Safetensors out;
  out.tensors["y"] = y.detach().contiguous();
  if (dy.defined()) {
    y.backward(dy);
    out.tensors["d_x"] = x.grad().contiguous();
    for (const auto& item : subject.module->named_parameters()) {
      const Tensor gradient = item.value().grad();
      if (gradient.defined()) out.tensors["d_param." + item.key()] = gradient.contiguous();
    }
  }
  write_file(to, encode_safetensors(out));
}

}  // namespace
}  // namespace klab

int main(int count, char** arguments) {
  const std::vector<std::string> given(arguments + 1, arguments + count);
  try {
    if (given.size() == 2 && given[0] == "--parameters") return klab::print_parameters(given[1]);
    if (given.size() != 2) klab::refuse("usage: run_module [--parameters] IN.safetensors [OUT.safetensors]");
    klab::run(given[0], given[1]);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "run_module: {}\n", error.what());
    return 1;
  }
}
