// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/store.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/base/error.h"

namespace klab {
namespace {

c10d::TCPStoreOptions options_of(uint16_t port, bool serve, std::chrono::seconds limit) {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = serve;
  options.waitWorkers = false;
  options.timeout = limit;
  return options;
}

}  // namespace

std::shared_ptr<Store> Store::connect(const RankEnvironment& environment, std::chrono::seconds limit) {
  const bool serve = environment.rank == 0 && !environment.store_is_served;
  try {
    const auto tcp = c10::make_intrusive<c10d::TCPStore>(environment.host, options_of(environment.port, serve, limit));
    return std::make_shared<Store>(c10::make_intrusive<c10d::PrefixStore>(environment.prefix, tcp));
  } catch (const c10::Error& error) {
    fail("rank {} of {} cannot {} the store at {}:{}: {} (MASTER_ADDR and MASTER_PORT choose another one)",
         environment.rank, environment.size, serve ? "serve" : "reach", environment.host, environment.port,
         error.what_without_backtrace());
  }
}

Store::Store(Torch store) : store_(std::move(store)) {}
Store::~Store() = default;

std::shared_ptr<Store> Store::serve() {
  return std::make_shared<Store>(
      c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options_of(0, /*serve=*/true, std::chrono::seconds(60))));
}

uint16_t Store::port() const { return dynamic_cast<const c10d::TCPStore&>(*store_).getPort(); }

std::shared_ptr<Store> Store::again() const { return std::make_shared<Store>(store_->clone()); }

void Store::set(const std::string& key, const std::string& text) {
  store_->set(key, std::vector<uint8_t>(text.begin(), text.end()));
}

std::optional<std::string> Store::get(const std::string& key) {
  if (!store_->check({key})) return std::nullopt;
  const std::vector<uint8_t> bytes = store_->get(key);
  return std::string(bytes.begin(), bytes.end());
}

int64_t Store::add(const std::string& key, int64_t number) { return store_->add(key, number); }

}  // namespace klab
