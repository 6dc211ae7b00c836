#include "experiments/run.h"

#include <torch/torch.h>

namespace klab {

BatchSource batch_source(const RunConfig& config, Split split) {
  const std::shared_ptr<const Task> task = config.task.make();
  return [task, split, seed = config.train.seed, count = config.train.batch](int64_t index) {
    const ExampleBatch examples = example_batch(*task, seed, split, index * count, count);
    const auto tensor = [&](const std::vector<int64_t>& ids) {
      return torch::tensor(ids, torch::kLong).view({examples.count, examples.length});
    };
    return Batch{tensor(examples.inputs), tensor(examples.labels)};
  };
}

Decoder make_model(const RunConfig& config) { return Decoder(config.model, config.vocabulary()); }

Trainer make_trainer(const RunConfig& config, const RunFolder& folder, const std::vector<std::string>& provenance,
                     bool resume, const torch::Device& device) {
  return Trainer(make_model(config), config.train, batch_source(config, Split::train),
                 batch_source(config, Split::test), folder, provenance, resume, device);
}

}  // namespace klab
