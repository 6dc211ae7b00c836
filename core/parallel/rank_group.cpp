// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/rank_group.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <numeric>
#include <thread>
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "core/base/text.h"
#include "core/parallel/nccl_group.h"

namespace klab {
namespace {

using at::Tensor;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kMeetingPoll{20};

// Gloo moves bytes, whatever the dtype.
Tensor bytes_of(const Tensor& x) { return x.contiguous().reshape({-1}).view(at::kByte); }

int64_t total(const std::vector<int64_t>& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

std::vector<int64_t> times(std::vector<int64_t> counts, int64_t factor) {
  for (int64_t& count : counts) count *= factor;
  return counts;
}

std::string message_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  return torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
}

// Waits until every rank has come, and refuses a rank that was started otherwise.
void meet(Store& store, int64_t rank, int64_t size, std::chrono::seconds limit) {
  if (store.add(fmt::format("joined/{}", rank), 1) > 1) {
    fail("two processes are rank {} of {}: each needs a rank of its own", rank, size);
  }
  store.set(fmt::format("size/{}", rank), fmt::format("{}", size));
  const auto end = Clock::now() + limit;
  std::vector<std::string> missing;
  for (int64_t other = 0; other < size; ++other) {
    auto theirs = store.get(fmt::format("size/{}", other));
    for (; !theirs && Clock::now() < end; theirs = store.get(fmt::format("size/{}", other))) {
      std::this_thread::sleep_for(kMeetingPoll);
    }
    if (!theirs) missing.push_back(fmt::format("{}", other));
    if (theirs && *theirs != fmt::format("{}", size)) {
      fail("rank {} was started as one of {} ranks, but rank {} as one of {}", rank, size, other, *theirs);
    }
  }
  if (missing.empty()) return;
  fail("rank {} of {} did not come within {} s: were all {} processes started, with the same store?", join(missing),
       size, limit.count(), size);
}

// The address of this machine from which it reaches the host: the others can reach it there too.
std::string own_address(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), "9", &hints, &found) != 0) fail("the host '{}' of the store is not known", host);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int udp = ::socket(one->ai_family, SOCK_DGRAM, 0);
    if (udp < 0) continue;
    sockaddr_storage own{};
    socklen_t length = sizeof(own);
    std::array<char, NI_MAXHOST> text{};
    const bool known =  // connecting a datagram socket sends nothing
        ::connect(udp, one->ai_addr, one->ai_addrlen) == 0 &&
        ::getsockname(udp, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST) == 0;
    ::close(udp);
    if (known) return text.data();
  }
  fail("this machine has no way to the host '{}' of the store", host);
}

// torch's record of the latest operations is not safe when several threads of a process have groups (torch 2.11).
void keep_flight_recorder_off() { ::setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/1); }

// Gloo writes to its sockets in a way that raises SIGPIPE where the peer has died, which would end this process without
// a word; ignored, the write fails, and the operation throws.
void keep_alive_when_a_peer_dies() {
  struct sigaction now {};
  if (::sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
}

Store::Torch with_prefix(const Store& store, const std::string& name) {
  return c10::make_intrusive<c10d::PrefixStore>(name, store.torch());
}

c10::intrusive_ptr<c10d::Backend> gloo_group(const Store& store, const std::string& name, int64_t rank, int64_t size,
                                             const std::string& address, std::chrono::seconds limit) {
  const auto options = c10d::ProcessGroupGloo::Options::create(limit);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(with_prefix(store, name), static_cast<int>(rank),
                                                     static_cast<int>(size), options);
}

}  // namespace

// What the groups of one process share.
struct RankGroup::Job {
  Job(std::shared_ptr<Store> meeting, bool serves, std::string own, std::chrono::seconds longest, int64_t rank,
      int64_t size)
      : store(std::move(meeting)),
        serves_store(serves),
        address(std::move(own)),
        limit(longest),
        watch(*store, rank, size, longest) {}

  std::shared_ptr<Store> store;
  bool serves_store;
  std::string address;  // at which the others reach this rank
  std::chrono::seconds limit;
  RankWatch watch;
};

RankGroup::RankGroup() = default;
RankGroup::~RankGroup() = default;

RankGroup::RankGroup(std::shared_ptr<Job> job, const std::string& name, int64_t rank, int64_t size)
    : job_(std::move(job)), name_(name), rank_(rank), size_(size) {
  try {
    gloo_ = gloo_group(*job_->store, name, rank, size, job_->address, job_->limit);
  } catch (const std::exception& error) {
    throw RankFailure(job_->watch.explain(message_of(error)));
  }
}

std::shared_ptr<RankGroup> RankGroup::join(const RankEnvironment& environment, std::chrono::seconds limit) {
  if (environment.size == 1) return std::make_shared<RankGroup>();
  const std::shared_ptr<Store> store = Store::connect(environment, limit);
  const bool serves = environment.rank == 0 && !environment.store_is_served;
  return join(store, environment.rank, environment.size, limit, serves, own_address(environment.host));
}

std::shared_ptr<RankGroup> RankGroup::join(const std::shared_ptr<Store>& store, int64_t rank, int64_t size,
                                           std::chrono::seconds limit, bool serves_store, const std::string& address) {
  keep_flight_recorder_off();
  keep_alive_when_a_peer_dies();
  meet(*store, rank, size, limit);
  auto job = std::make_shared<Job>(store, serves_store, address, limit, rank, size);
  return std::shared_ptr<RankGroup>(new RankGroup(std::move(job), "all", rank, size));
}

std::shared_ptr<RankGroup> RankGroup::of_ranks(const std::vector<int64_t>& ranks, const std::string& name) const {
  if (ranks.size() == 1) return std::make_shared<RankGroup>();
  const auto own = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
  return std::shared_ptr<RankGroup>(new RankGroup(job_, name, own, static_cast<int64_t>(ranks.size())));
}

c10::intrusive_ptr<c10d::ProcessGroup> RankGroup::torch_group() const {
  auto group =
      c10::make_intrusive<c10d::ProcessGroup>(job_->store->torch(), static_cast<int>(rank_), static_cast<int>(size_));
  group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo_);
  return group;
}

c10d::Backend& RankGroup::backend_for(const Tensor& x) {
  if (!x.is_cuda()) return *gloo_;
  if (!nccl_) {
    nccl_ = nccl_group(with_prefix(*job_->store, "nccl/" + name_), static_cast<int>(rank_), static_cast<int>(size_),
                       job_->limit);
  }
  return *nccl_;
}

template <class Operation>
void RankGroup::operate(const Operation& operation) {
  job_->watch.count_operation();
  try {
    operation()->wait();
  } catch (const std::exception& error) {
    throw RankFailure(job_->watch.explain(message_of(error)));
  }
}

void RankGroup::barrier() { gather(at::zeros({1}, at::kByte)); }

Tensor RankGroup::gather(const Tensor& x) {
  if (alone()) return x.unsqueeze(0);
  Tensor own = bytes_of(x), all = at::empty({size_ * own.numel()}, own.options());
  operate([&] { return backend_for(own)._allgather_base(all, own); });
  bytes_sent_ += (size_ - 1) * own.numel();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin(), size_);
  return all.view(x.scalar_type()).view(shape);
}

std::vector<std::string> RankGroup::gather_text(const std::string& text) {
  const Tensor lengths = gather(at::scalar_tensor(static_cast<int64_t>(text.size()), at::kLong));
  Tensor padded = at::zeros({std::max<int64_t>(1, lengths.max().item<int64_t>())}, at::kByte);
  std::copy(text.begin(), text.end(), padded.data_ptr<uint8_t>());
  const Tensor all = gather(padded);
  std::vector<std::string> texts;
  for (int64_t rank = 0; rank < size_; ++rank) {
    const auto* begin = reinterpret_cast<const char*>(all[rank].data_ptr<uint8_t>());
    texts.emplace_back(begin, begin + lengths[rank].item<int64_t>());
  }
  return texts;
}

Tensor RankGroup::exchange(const Tensor& x, const std::vector<int64_t>& sent, const std::vector<int64_t>& received) {
  if (alone()) return x;
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = total(received);
  const int64_t row = c10::multiply_integers(x.sizes().slice(1));
  Tensor out = at::empty(shape, x.options());
  Tensor from = bytes_of(x), into = out.reshape({-1}).view(at::kByte);
  const int64_t bytes = row * static_cast<int64_t>(x.element_size());
  std::vector<int64_t> to_each = times(sent, bytes), of_each = times(received, bytes);
  bytes_sent_ += total(to_each) - to_each[static_cast<size_t>(rank_)];
  operate([&] { return backend_for(from).alltoall_base(into, from, of_each, to_each); });  // which takes the vectors
  return out;
}

void RankGroup::broadcast(const Tensor& x, int64_t from) {
  if (alone()) return;
  std::vector<Tensor> bytes{bytes_of(x)};
  c10d::BroadcastOptions options;
  options.rootRank = from;
  operate([&] { return backend_for(x).broadcast(bytes, options); });
  if (rank_ == from) bytes_sent_ += (size_ - 1) * bytes[0].numel();
  if (rank_ != from) x.copy_(bytes[0].view(x.scalar_type()).view(x.sizes()));
}

void RankGroup::require_same(const std::string& what, const std::string& text) {
  const std::vector<std::string> texts = gather_text(text);
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] != texts[0]) {
      fail("rank {} was started with another {} than rank 0: '{}', but '{}'", rank, what, texts[rank], texts[0]);
    }
  }
}

Tensor RankGroup::sum(const Tensor& x) { return alone() ? x : pairwise_sum(gather(x).unbind(0)); }

Tensor RankGroup::largest(const Tensor& x) { return alone() ? x : gather(x).amax(0); }

void RankGroup::guard(const std::function<void()>& work) {
  if (alone()) return work();
  try {
    work();
  } catch (const std::exception& error) {
    job_->watch.report(message_of(error));
    throw;
  }
}

void RankGroup::run(const std::function<void()>& work) {
  if (alone()) return work();
  try {
    guard(work);
  } catch (...) {
    job_->watch.leave(job_->serves_store, /*failed=*/true);
    throw;
  }
  job_->watch.leave(job_->serves_store, /*failed=*/false);
}

Tensor pairwise_sum(std::vector<Tensor> parts) {
  while (parts.size() > 1) {
    std::vector<Tensor> sums;
    for (size_t i = 0; i + 1 < parts.size(); i += 2) sums.push_back(parts[i] + parts[i + 1]);
    if (parts.size() % 2 == 1) sums.push_back(parts.back());
    parts = std::move(sums);
  }
  return parts.front();
}

}  // namespace klab
