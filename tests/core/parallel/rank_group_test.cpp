// SPDX-License-Identifier: Apache-2.0
// Operations of two and three ranks, on threads; tests/experiments/cli/ranks_test.cpp has processes.
#include "core/parallel/rank_group.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <numeric>
#include <thread>

#include "core/base/support.h"
#include "support/ranks.h"

namespace klab {
namespace {

using at::Tensor;
using Ranks = std::shared_ptr<RankGroup>;

Tensor numbers(std::initializer_list<double> values) { return at::tensor(std::vector<double>(values)); }

class Operations : public testing::TestWithParam<int64_t> {};

TEST_P(Operations, GatherHasTheTensorsOfAllRanksInEveryDtype) {
  on_rank_threads(GetParam(), [](const Ranks& ranks) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kLong, at::kBool, at::kByte}) {
      const Tensor own = at::full({2, 3}, ranks->rank(), at::kLong).to(type);
      const Tensor all = ranks->gather(own);
      ASSERT_EQ(all.sizes(), (std::vector<int64_t>{ranks->size(), 2, 3}));
      ASSERT_EQ(all.scalar_type(), type);
      for (int64_t rank = 0; rank < ranks->size(); ++rank) {
        EXPECT_TRUE(at::equal(all[rank], at::full({2, 3}, rank, at::kLong).to(type)));
      }
    }
  });
}

// Rank r sends 1 + r + s rows to rank s, and none to itself if r is 1.
TEST_P(Operations, ExchangeSendsRowsInOrder) {
  on_rank_threads(GetParam(), [](const Ranks& ranks) {
    const auto count = [](int64_t from, int64_t to) { return from == 1 && to == 1 ? 0 : 1 + from + to; };
    const auto row = [](int64_t from, int64_t to, int64_t i) { return static_cast<float>(100 * from + 10 * to + i); };
    std::vector<int64_t> sent, received;
    std::vector<float> rows, expected;
    for (int64_t other = 0; other < ranks->size(); ++other) {
      sent.push_back(count(ranks->rank(), other));
      received.push_back(count(other, ranks->rank()));
      for (int64_t i = 0; i < sent.back(); ++i) rows.push_back(row(ranks->rank(), other, i));
      for (int64_t i = 0; i < received.back(); ++i) expected.push_back(row(other, ranks->rank(), i));
    }
    const Tensor got = ranks->exchange(at::tensor(rows).unsqueeze(1).repeat({1, 2}), sent, received);
    EXPECT_TRUE(at::equal(got, at::tensor(expected).unsqueeze(1).repeat({1, 2})));
  });
}

TEST_P(Operations, BroadcastSumLargestAndTexts) {
  on_rank_threads(GetParam(), [](const Ranks& ranks) {
    const int64_t last = ranks->size() - 1;
    const Tensor x = numbers({1.0 + static_cast<double>(ranks->rank()), -1.0});
    const Tensor columns = at::stack({x, x}, 1).select(1, 0);  // not contiguous
    ranks->broadcast(columns, last);
    EXPECT_TRUE(at::equal(columns, numbers({1.0 + static_cast<double>(last), -1.0})));
    const double sum = static_cast<double>(ranks->size() * (ranks->size() + 1)) / 2;
    EXPECT_TRUE(at::equal(ranks->sum(x), numbers({sum, -static_cast<double>(ranks->size())})));
    EXPECT_TRUE(at::equal(ranks->largest(x), numbers({static_cast<double>(ranks->size()), -1})));
    const std::vector<std::string> texts = ranks->gather_text(std::string(static_cast<size_t>(ranks->rank()), 'x'));
    for (size_t rank = 0; rank < texts.size(); ++rank) EXPECT_EQ(texts[rank], std::string(rank, 'x'));
    ranks->require_same("text", "equal");
    ranks->barrier();
  });
}

TEST_P(Operations, GroupsOfSomeRanksAreIndependent) {
  on_rank_threads(GetParam(), [](const Ranks& ranks) {
    std::vector<int64_t> first(static_cast<size_t>(ranks->size() - 1));
    std::iota(first.begin(), first.end(), 0);
    const bool in_first = ranks->rank() < ranks->size() - 1;
    const auto part = ranks->of_ranks(in_first ? first : std::vector{ranks->size() - 1}, in_first ? "first" : "last");
    EXPECT_EQ(part->size(), in_first ? ranks->size() - 1 : 1);
    EXPECT_EQ(part->sum(at::ones({1}, at::kLong)).item<int64_t>(), part->size());
  });
}

TEST_P(Operations, CountBytes) {
  on_rank_threads(GetParam(), [](const Ranks& ranks) {
    const int64_t others = ranks->size() - 1;
    ranks->gather(at::zeros({10}));
    EXPECT_EQ(ranks->bytes_sent(), 40 * others);
    const std::vector<int64_t> each(static_cast<size_t>(ranks->size()), 5);
    ranks->exchange(at::zeros({5 * ranks->size()}), each, each);
    EXPECT_EQ(ranks->bytes_sent(), (40 + 20) * others);
  });
}

// An error of one rank ends the others with its message.
TEST_P(Operations, TheOthersFailWithTheMessageOfARankThatFailed) {
  std::vector<std::string> messages(static_cast<size_t>(GetParam()));
  EXPECT_THROW(on_rank_threads(GetParam(),
                               [&](const Ranks& ranks) {
                                 std::string& message = messages[static_cast<size_t>(ranks->rank())];
                                 if (ranks->rank() == 1) fail("the disk is full");
                                 message = message_of<RankFailure>([&] { ranks->gather(at::zeros({1})); });
                                 fail("{}", message);
                               }),
               Error);
  for (size_t rank = 0; rank < messages.size(); ++rank) {
    EXPECT_TRUE(rank == 1 || contains(messages[rank], "rank 1 failed: the disk is full")) << messages[rank];
  }
}

TEST_P(Operations, TextsThatDifferAreRefusedByRank) {
  const std::string error = message_of<Error>([] {
    on_rank_threads(GetParam(),
                    [](const Ranks& ranks) { ranks->require_same("config", ranks->rank() == 1 ? "b" : "a"); });
  });
  EXPECT_TRUE(contains(error, "rank 1 was started with another config than rank 0: 'b', but 'a'")) << error;
}

INSTANTIATE_TEST_SUITE_P(Ranks, Operations, testing::Values(2, 3));

TEST(RankGroup, AloneNothingIsSent) {
  RankGroup alone;
  const Tensor x = at::ones({2});
  EXPECT_TRUE(at::equal(alone.gather(x), x.unsqueeze(0)));
  EXPECT_TRUE(at::equal(alone.exchange(x, {2}, {2}), x));
  EXPECT_TRUE(at::equal(alone.sum(x), x));
  alone.barrier();
  EXPECT_EQ(alone.bytes_sent(), 0);
  EXPECT_THROW(alone.run([] { fail("no"); }), Error);
}

TEST(RankGroup, SumsArePairwise) {
  const float tiny = 1.0F / (1 << 24);
  std::vector<Tensor> parts;
  for (const float value : {1.0F, tiny, tiny, tiny}) parts.push_back(at::full({1}, value));
  EXPECT_EQ(pairwise_sum(parts).item<float>(), 1.0F + 2 * tiny);
  EXPECT_EQ(pairwise_sum({parts[0], parts[1], parts[2]}).item<float>(), 1.0F);  // (1 + tiny) + tiny, rounded twice
}

TEST(RankGroup, ARankThatDoesNotComeIsNamed) {
  const auto store = Store::serve();
  const std::string error = message_of<Error>([&] { RankGroup::join(store, 0, 3, std::chrono::seconds(1)); });
  EXPECT_TRUE(contains(error, "rank 1, 2 of 3 did not come within 1 s")) << error;
}

TEST(RankGroup, RanksThatWereStartedOtherwiseAreRefused) {
  const auto store = Store::serve();
  store->set("size/1", "3");
  const std::string error = message_of<Error>([&] { RankGroup::join(store, 0, 2, std::chrono::seconds(5)); });
  EXPECT_TRUE(contains(error, "rank 0 was started as one of 2 ranks, but rank 1 as one of 3")) << error;
  const std::string twice = message_of<Error>([&] { RankGroup::join(store, 0, 2, std::chrono::seconds(5)); });
  EXPECT_TRUE(contains(twice, "two processes are rank 0 of 2")) << twice;
}

// A write to a dead peer raises SIGPIPE, which ends a process that does not ignore it, without a message.
TEST(RankGroup, ADeadPeerDoesNotEndTheProcess) {
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  on_rank_threads(2, [](const Ranks& ranks) { ranks->barrier(); });
  EXPECT_EQ(std::signal(SIGPIPE, before), SIG_IGN);
}

TEST(RankGroup, AHandlerOfTheProgramForDeadPeersStays) {
  const auto own = +[](int) {};
  const auto before = std::signal(SIGPIPE, own);
  on_rank_threads(2, [](const Ranks& ranks) { ranks->barrier(); });
  EXPECT_EQ(std::signal(SIGPIPE, before), own);
}

// A rank that lives, but does not come to an operation.
TEST(RankGroup, ALateRankIsNamed) {
  const auto store = Store::serve();
  std::atomic<bool> over{false};
  std::thread late([&] {
    const auto ranks = RankGroup::join(store->again(), 1, 2, std::chrono::seconds(2));
    while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  });
  const auto ranks = RankGroup::join(store, 0, 2, std::chrono::seconds(2));
  const std::string error = message_of<RankFailure>([&] { ranks->gather(at::zeros({1})); });
  EXPECT_TRUE(contains(error, "rank 1 lives, but did not come to an operation of all ranks within 2 s")) << error;
  over = true;
  late.join();
}

}  // namespace
}  // namespace klab
