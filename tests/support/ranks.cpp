// SPDX-License-Identifier: Apache-2.0
#include "support/ranks.h"

#include <ATen/Parallel.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <exception>
#include <thread>
#include <vector>

namespace klab {

void on_rank_threads(int64_t count, const std::function<void(const std::shared_ptr<RankGroup>& ranks)>& work) {
  const auto store = std::make_shared<Store>(c10::make_intrusive<c10d::HashStore>());
  std::vector<std::exception_ptr> errors(static_cast<size_t>(count));
  const int torch_threads = at::get_num_threads();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        at::set_num_threads(1);  // or all ranks would use all cores
        const auto ranks = RankGroup::join(store, rank, count, std::chrono::seconds(60));
        ranks->run([&] { work(ranks); });
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  at::set_num_threads(torch_threads);
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace klab
