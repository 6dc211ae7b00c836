// SPDX-License-Identifier: Apache-2.0
#include "core/train/step_memory.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "core/model/decoder.h"
#include "core/train/gradient_sums.h"
#include "core/train/layer_memory.h"
#include "core/train/make_optimizer.h"
#include "core/train/target_loss.h"

namespace klab {
namespace {

using torch::Tensor;

Decoder without_memory(const ModelConfig& config, int64_t vocabulary, torch::ScalarType dtype) {
  const ParameterPlace nowhere(torch::kMeta, dtype);
  return Decoder(config, vocabulary);
}

bool has_gradient(const Tensor& parameter) { return parameter.requires_grad(); }

// Memory of the head and the loss (target_loss.h).
LayerMemory head_memory(double targets, double width, double vocabulary, double element) {
  const double rounded = element < 4 ? 1 : 0;  // 1: there are copies in the narrower dtype
  const double weight = vocabulary * width, hidden = targets * width;
  if (targets * vocabulary <= static_cast<double>(kLogitsAtOnce)) {
    const double logits = targets * vocabulary;
    return {4 * logits, (8 + rounded * element) * logits, (4 + rounded * element) * logits + element * hidden};
  }
  const auto part = static_cast<double>(kLogitsAtOnce);
  const double kept = element * (hidden + weight);  // both gradients
  return {kept, kept + (8 + rounded * element) * part + (4 + rounded * element) * weight, element * (hidden + weight)};
}

// The amount of memory in use, and its peak.
class Use {
 public:
  explicit Use(double now) : now_(now), peak_(now) {}
  void reach(double more) { peak_ = std::max(peak_, now_ + more); }
  void add(double bytes) {
    now_ += bytes;
    reach(0);
  }
  double now() const { return now_; }
  double peak() const { return peak_; }

 private:
  double now_, peak_;
};

class Step {
 public:
  Step(const ModelConfig& model, int64_t vocabulary, const TrainConfig& train, const StepShape& shape,
       const RankLayout& layout)
      : train_(train),
        layout_(layout),
        dtype_(train.step_dtype()),
        model_(without_memory(model, vocabulary, torch::kFloat)),
        computing_(without_memory(model, vocabulary, dtype_)),
        tokens_(static_cast<double>(shape.sequences * shape.length)),
        targets_(static_cast<double>(shape.sequences * shape.targets)) {
    layout.validate();
    for (const Decoder& one : {model_, computing_}) {
      const auto parameters = one->named_parameters();
      for (const std::string& name : one->expert_parameters()) {
        experts_.insert(parameters[name].unsafeGetTensorImpl());
      }
    }
    measure_layers(shape);
  }

  StepMemory memory() const {
    const auto optimizer = make_optimizer(*model_, train_);
    const double gradients = bytes_of(*model_, has_gradient), state = state_of(*optimizer), buffers = this->buffers();
    const double fixed = weights() + state + buffers;
    const auto kept = static_cast<double>(GradientSums::kept_copies(layout_.own_parts(train_.accumulate)));
    Use use(fixed + (in_parts() ? gradients * (1 + kept) : 0));
    const double before = use.now();
    forward(use);
    const double activations = use.now() - before;
    backward(use);
    const double update = fixed + gradients + static_cast<double>(optimizer->temporary_bytes());
    const auto bytes = [](double x) { return static_cast<int64_t>(x); };
    return {parameter_count(*model_),
            bytes(weights()),
            bytes(state),
            bytes(gradients),
            bytes(activations),
            bytes(buffers),
            bytes(std::max(use.peak(), update))};
  }

 private:
  // The bytes that a rank has of these parameters: of experts its share.
  double bytes_of(const torch::nn::Module& module, const std::function<bool(const Tensor&)>& counts) const {
    double sum = 0;
    for (const Tensor& parameter : module.parameters()) {
      if (counts(parameter)) sum += static_cast<double>(parameter.nbytes()) / shares_of(parameter);
    }
    return sum;
  }

  double shares_of(const Tensor& parameter) const {
    return experts_.contains(parameter.unsafeGetTensorImpl()) ? static_cast<double>(layout_.experts) : 1;
  }

  double state_of(const Optimizer& optimizer) const {
    double sum = 0;
    const auto parameters = model_->named_parameters();
    for (const auto& [name, tensor] : optimizer.state()) {
      const auto bytes = static_cast<double>(tensor.nbytes());
      const Tensor* parameter = parameters.find(name.substr(std::min(name.size(), name.find("layer"))));
      const double shares = parameter != nullptr ? shares_of(*parameter) : 1;
      sum += bytes / (layout_.zero ? static_cast<double>(layout_.ranks) : shares);
    }
    return sum;
  }

  // A bucket of gradients as it is sent, as parts of all ranks, and as their sums.
  double buffers() const {
    const double all = bytes_of(*model_, has_gradient);
    const auto bucket = static_cast<double>(usual_bucket_bytes(static_cast<int64_t>(all)));
    return layout_.ranks > 1 ? 3 * std::min(bucket, all) : 0;
  }

  // Gradients of earlier parts of a step exist while later ones are computed.
  bool in_parts() const { return layout_.own_parts(train_.accumulate) > 1; }
  bool has_copy() const { return dtype_ != torch::kFloat; }
  double element() const { return has_copy() ? 2 : 4; }
  double width() const { return static_cast<double>(model_->config().width); }
  double hidden() const { return element() * tokens_ * width(); }              // [B, T, D]
  double hidden_of_targets() const { return element() * targets_ * width(); }  // [targets, D]

  // With ZeRO-1 a rank has only those that it updates, of those that the copy has too.
  double master_weights() const {
    const auto computed = computing_->named_parameters();
    double sum = 0;
    for (const auto& item : model_->named_parameters()) {
      const bool sharded = layout_.zero && computed[item.key()].scalar_type() != torch::kFloat;
      sum += static_cast<double>(item.value().nbytes()) /
             (sharded ? static_cast<double>(layout_.ranks) : shares_of(item.value()));
    }
    return sum;
  }

  double weights() const {
    const double own = master_weights();
    const double copy = bytes_of(*computing_, [&](const Tensor& x) { return x.scalar_type() != torch::kFloat; });
    return own * (train_.ema > 0 ? 2 : 1) + copy;
  }

  void measure_layers(const StepShape& shape) {
    const ModelConfig& config = model_->config();
    const std::vector<std::string> items = config.layer_mixers();
    std::map<LayerKind, LayerMemory> known;
    for (size_t layer = 0; layer < items.size(); ++layer) {
      const LayerKind kind = kind_of(config, items[layer], static_cast<int64_t>(layer));
      if (!known.contains(kind)) {
        known[kind] =
            measure_layer(config, kind, shape.sequences, shape.length, dtype_, train_.optimizer == "muonclip");
      }
      layers_.push_back(train_.activation_checkpointing ? checkpointed(known[kind]) : known[kind]);
    }
  }

  // Only the output is kept, the next layer's input; the backward pass begins with the forward pass.
  LayerMemory checkpointed(const LayerMemory& layer) const {
    return {hidden(), layer.forward, std::max(layer.forward, layer.kept + layer.backward)};
  }

  void forward(Use& use) const {
    use.add(hidden());
    for (const LayerMemory& layer : layers_) {
      use.reach(layer.forward);
      use.add(layer.kept);
    }
    use.add(hidden() + hidden_of_targets());
    use.reach(head().forward);
    use.add(head().kept);
  }

  LayerMemory head() const {
    return head_memory(targets_, width(), static_cast<double>(model_->vocabulary()), element());
  }

  // Gradients of parameters take the place of activations; those that are added to earlier ones are freed.
  void backward(Use& use) const {
    const auto gradients = [&](double bytes) {
      use.reach(bytes);
      if (!in_parts() || has_copy()) use.add(bytes);
    };
    use.reach(head().backward + hidden() + hidden_of_targets());
    gradients(bytes_of(*computing_, has_gradient) - bytes_of_layers());
    use.add(-head().kept - hidden() - hidden_of_targets());
    for (size_t layer = layers_.size(); layer-- > 0;) {
      const double own = bytes_of(*computing_->layers()[layer], has_gradient);
      use.reach(own + layers_[layer].backward);
      use.add(-layers_[layer].kept);
      gradients(own);
    }
  }

  double bytes_of_layers() const {
    double sum = 0;
    for (const DecoderLayer& layer : computing_->layers()) sum += bytes_of(*layer, has_gradient);
    return sum;
  }

  const TrainConfig& train_;
  RankLayout layout_;
  torch::ScalarType dtype_;
  Decoder model_, computing_;
  std::set<const at::TensorImpl*> experts_;  // parameters of routed experts
  double tokens_, targets_;
  std::vector<LayerMemory> layers_;
};

}  // namespace

StepMemory predict_step_memory(const ModelConfig& model, int64_t vocabulary, const TrainConfig& train,
                               const StepShape& shape, const RankLayout& layout) {
  return Step(model, vocabulary, train, shape, layout).memory();
}

}  // namespace klab
