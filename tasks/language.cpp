// SPDX-License-Identifier: Apache-2.0
#include "tasks/language.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "tasks/gaps.h"

namespace klab {
namespace {

constexpr double kWeightOne = 0x1p32;

// round(2^32 n^-power), at least 1: integers, so that draws are the same on every machine.
uint64_t weight(int64_t n, double power) {
  return std::max<uint64_t>(1,
                            static_cast<uint64_t>(std::llround(kWeightOne * std::pow(static_cast<double>(n), -power))));
}

}  // namespace

void LanguageOptions::visit(Fields& fields) {
  fields("zipf", zipf, {0, 10}, "exponent of the Zipf distribution of words");
  fields("order_two", order_two, {0, 1}, "share of words that depend on the last two words, not on the last one alone");
  fields("recur", recur, {0, 1}, "share of words that repeat what followed an earlier place of the last word");
  fields("recur_power", recur_power, {0, 10}, "such places are drawn by the gap to this negative power");
  fields("open", open, {0, 1}, "probability of an opening bracket");
  fields("close", close, {0, 1}, "probability of the closing bracket");
  fields("brackets", brackets, {1, 1000}, "kinds of brackets");
  fields("depth", depth, {0, 1000}, "the most open brackets");
  fields("span", span, {0, 1}, "probability of a span of words that is repeated in reverse");
  fields("span_end", span_end, {0, 1}, "probability of its end after each word");
  fields("span_most", span_most, {1, 1000}, "the most words of a span");
  fields("source_seed", source_seed, {0, std::numeric_limits<int64_t>::max()}, "seed of the orders of words");
}

void LanguageOptions::validate() const {
  require(open + close + span < 1, "task.language.open", fmt::format("{}", open),
          "plus close plus span must be below 1: the rest is the probability of a word");
}

// One sequence: what precedes the next token, and the distribution that follows from it.
class LanguageSource {
 public:
  LanguageSource(const Language& language, Random& random) : of_(language), random_(random) {}

  // The next token; adds its surprisal to `surprisal`.
  int64_t next(std::vector<double>& surprisal) {
    probability_ = 1;
    const int64_t token = reversing_ ? reversed() : in_span_ ? span_token() : free_token();
    surprisal.push_back(-std::log(probability_));
    return token;
  }

 private:
  const LanguageOptions& options() const { return of_.options_; }
  int64_t words() const { return of_.shape_.vocab; }

  int64_t reversed() {
    const int64_t word = span_.back();
    span_.pop_back();
    reversing_ = !span_.empty();
    return word;
  }

  int64_t span_token() {
    const bool full = static_cast<int64_t>(span_.size()) == options().span_most;
    const double end = span_.empty() ? 0 : full ? 1 : options().span_end;
    if (random_.uniform() < end) {
      probability_ = end;
      in_span_ = false;
      reversing_ = true;
      return of_.pop();
    }
    probability_ = (1 - end) / static_cast<double>(words());
    span_.push_back(static_cast<int64_t>(random_.below(static_cast<uint64_t>(words()))));
    return span_.back();
  }

  int64_t free_token() {
    const double open = static_cast<int64_t>(open_.size()) < options().depth ? options().open : 0;
    const double close = open_.empty() ? 0 : options().close;
    const double draw = random_.uniform();
    if (draw < open) {
      probability_ = open / static_cast<double>(options().brackets);
      open_.push_back(static_cast<int64_t>(random_.below(static_cast<uint64_t>(options().brackets))));
      return of_.opening(open_.back());
    }
    if (draw < open + close) {
      probability_ = close;
      const int64_t kind = open_.back();
      open_.pop_back();
      return of_.closing(kind);
    }
    if (draw < open + close + options().span) {
      probability_ = options().span;
      in_span_ = true;
      return of_.push();
    }
    return word(1 - open - close - options().span);
  }

  // A word outside of spans, whose probability is `share` times that among words.
  int64_t word(double share) {
    find_places();
    const double recur = total_ == 0 ? 0 : options().recur;
    const double draw = random_.uniform();
    int64_t word = 0;
    if (draw < recur) {
      word = recurring_word();
    } else {
      const bool two = draw < recur + (1 - recur) * options().order_two;
      word = (ranked_word() + shift(two)) % words();
    }
    probability_ = share * (recur * recurrence(word) + (1 - recur) * (options().order_two * zipf(word, true) +
                                                                      (1 - options().order_two) * zipf(word, false)));
    said_.push_back(word);
    return word;
  }

  // Places where the last word occurred before, each with the weight of its gap.
  void find_places() {
    places_.clear();
    total_ = 0;
    const auto last = static_cast<int64_t>(said_.size()) - 1;
    for (int64_t i = last - 1; i >= 0; --i) {
      if (said_[static_cast<size_t>(i)] != said_.back()) continue;
      const uint64_t by = of_.by_gap_[static_cast<size_t>(last - i - 1)];
      places_.push_back({said_[static_cast<size_t>(i) + 1], by});
      total_ += by;
    }
  }

  int64_t recurring_word() {
    uint64_t draw = random_.below(total_);
    for (const auto& [word, by] : places_) {
      if (draw < by) return word;
      draw -= by;
    }
    return places_.back().first;  // not reached: the weights add up to total_
  }

  double recurrence(int64_t word) const {
    uint64_t sum = 0;
    for (const auto& [said, by] : places_) sum += said == word ? by : 0;
    return total_ == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(total_);
  }

  int64_t ranked_word() {
    const uint64_t draw = random_.below(of_.zipf_.back());
    return std::upper_bound(of_.zipf_.begin(), of_.zipf_.end(), draw) - of_.zipf_.begin();
  }

  // The word of rank 0 after the last word or (`two`) the last two; the others follow in the order of their numbers.
  int64_t shift(bool two) const {
    const auto said = [&](size_t back) { return said_.size() < back ? words() : said_[said_.size() - back]; };
    Random random{static_cast<uint64_t>(options().source_seed), static_cast<uint64_t>(said(1)),
                  static_cast<uint64_t>(two ? said(2) : -1)};
    return static_cast<int64_t>(random.below(static_cast<uint64_t>(words())));
  }

  double zipf(int64_t word, bool two) const {
    const auto rank = static_cast<size_t>((word - shift(two) + words()) % words());
    const uint64_t before = rank == 0 ? 0 : of_.zipf_[rank - 1];
    return static_cast<double>(of_.zipf_[rank] - before) / static_cast<double>(of_.zipf_.back());
  }

  const Language& of_;
  Random& random_;
  std::vector<int64_t> said_;  // words outside of spans
  std::vector<int64_t> open_;  // kinds of open brackets, the innermost last
  std::vector<int64_t> span_;
  bool in_span_ = false, reversing_ = false;
  std::vector<std::pair<int64_t, uint64_t>> places_;  // the word that followed, and the weight
  uint64_t total_ = 0;                                // of the weights
  double probability_ = 1;
};

Language::Language(const TaskShape& shape, const LanguageOptions& options) : shape_(shape), options_(options) {
  options_.validate();
  for (int64_t rank = 1; rank <= shape.vocab; ++rank) {
    zipf_.push_back((zipf_.empty() ? 0 : zipf_.back()) + weight(rank, options_.zipf));
  }
  for (int64_t gap = 1; gap <= shape.length; ++gap) by_gap_.push_back(weight(gap, options_.recur_power));
}

Example Language::generate(Random& random) const {
  LanguageSource source(*this, random);
  Example example;
  int64_t last = start();
  while (example.size() < shape_.length) {
    const int64_t token = source.next(example.surprisal);
    example.append(last, token, 0);
    last = token;
  }
  set_gaps(example);
  return example;
}

std::string Language::token_name(int64_t id) const {
  if (id < 0 || id >= vocabulary()) fail("language has no token {}: the ids are 0 to {}", id, vocabulary() - 1);
  if (id < shape_.vocab) return fmt::format("w{}", id);
  if (id < closing(0)) return fmt::format("({}", id - opening(0));
  if (id < push()) return fmt::format("{})", id - closing(0));
  return id == push() ? "<push>" : id == pop() ? "<pop>" : "<start>";
}

TaskEntry language_task() {
  return task_entry<Language, LanguageOptions>("language", "predict the next token of a source with known entropy");
}

}  // namespace klab
