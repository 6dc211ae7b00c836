// SPDX-License-Identifier: Apache-2.0
// The store at which ranks meet: a few texts by name, over torch's TCPStore.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "core/parallel/rank_environment.h"

namespace c10d {
class Store;
}

namespace klab {

class Store {
 public:
  using Torch = c10::intrusive_ptr<c10d::Store>;

  /// Connects to the environment's store, which rank 0 serves unless the launcher does. Throws Error that names the
  /// address if there is none within the time limit.
  static std::shared_ptr<Store> connect(const RankEnvironment& environment, std::chrono::seconds limit);

  /// A store for the threads of one process, or one that exists already.
  explicit Store(Torch store);
  ~Store();

  /// Serves a store at a free port of this machine, for the processes that this one starts.
  static std::shared_ptr<Store> serve();
  uint16_t port() const;

  /// Another connection to it: one connection is for one thread at a time.
  std::shared_ptr<Store> again() const;

  void set(const std::string& key, const std::string& text);
  /// Nothing if there is no such key.
  std::optional<std::string> get(const std::string& key);
  /// Adds to a number, which begins with 0; returns the sum.
  int64_t add(const std::string& key, int64_t number);

  const Torch& torch() const { return store_; }

 private:
  Torch store_;
};

}  // namespace klab
