// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/board.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "core/base/message.h"
#include "core/base/table.h"
#include "core/base/text.h"

namespace klab {
namespace {

constexpr size_t kMostRows = 20;
constexpr double kSecondsBetweenSummaries = 15;

double tokens_done(const Plan& plan, const std::vector<RunRecord>& records) {
  double done = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const PlannedRun& run = plan.runs[i];
    done += run.tokens * static_cast<double>(records[i].step) / static_cast<double>(run.steps);
  }
  return done;
}

double tokens_left(const Plan& plan, const std::vector<RunRecord>& records) {
  double left = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    const PlannedRun& run = plan.runs[i];
    if (is_over(records[i].state)) continue;
    left += run.tokens * (1 - static_cast<double>(records[i].step) / static_cast<double>(run.steps));
  }
  return left;
}

}  // namespace

SweepBoard::SweepBoard(const Plan& plan, const std::vector<RunRecord>& before, bool quiet)
    : plan_(plan),
      tokens_before_(tokens_done(plan, before)),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) != 0),
      begin_(Clock::now()),
      last_(begin_) {
  for (const RunRecord& record : before) told_.push_back(record.state);
}

std::string SweepBoard::name_of(size_t run) const {
  std::vector<std::string> words;
  for (size_t k = 0; k < plan_.keys.size(); ++k) {
    const std::string &key = plan_.keys[k], &value = plan_.runs[run].values[k];
    if (value.empty()) continue;  // this run does not have the option
    words.push_back(key.substr(key.rfind('.') + 1) + "=" + bare_list(value));
  }
  return words.empty() ? plan_.runs[run].id : join(words, " ");
}

std::string SweepBoard::summary(const std::vector<RunRecord>& records, int64_t workers) const {
  std::map<RunState, int64_t> count;
  for (const RunRecord& record : records) ++count[record.state];
  std::vector<std::string> words;
  for (const auto& [state, n] : count) words.push_back(fmt::format("{} {}", n, to_string(state)));
  const double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
  const double rate = (tokens_done(plan_, records) - tokens_before_) / elapsed, left = tokens_left(plan_, records);
  return fmt::format("{} of {} runs: {}; {} workers; {} elapsed, at most {} left",
                     std::count_if(records.begin(), records.end(), [](const auto& r) { return is_over(r.state); }),
                     records.size(), join(words), workers, clock_time(elapsed),
                     rate > 0 ? clock_time(left / rate) : "?");
}

std::string SweepBoard::running_table(const std::vector<RunRecord>& records) const {
  std::vector<std::vector<std::string>> rows;
  for (size_t i = 0; i < records.size() && rows.size() < kMostRows; ++i) {
    const RunRecord& r = records[i];
    if (r.state != RunState::running && r.state != RunState::parked) continue;
    rows.push_back({name_of(i), fmt::format("{}/{}", r.step, plan_.runs[i].steps),
                    r.evaluated ? fmt::format("{:.3f}", r.last.loss) : "-",
                    r.evaluated ? fmt::format("{:.3f}", r.last.acc_tok) : "-",
                    r.evaluated ? fmt::format("{:.3f}", r.last.acc_seq) : "-", short_count(r.tokens_per_second),
                    to_string(r.state)});
  }
  return rows.empty() ? "" : format_table({"run", "step", "loss", "acc_tok", "acc_seq", "tokens/s", ""}, rows);
}

void SweepBoard::erase() {
  if (lines_ > 0) fmt::print(stderr, "\x1b[{}A\x1b[J", lines_);
  lines_ = 0;
}

void SweepBoard::note(const std::string& line) {
  if (terminal_) erase();
  print_message(line);
}

void SweepBoard::tell_endings(const std::vector<RunRecord>& records) {
  for (size_t i = 0; i < records.size(); ++i) {
    const RunRecord& r = records[i];
    if (told_[i] == r.state || !is_over(r.state)) continue;
    told_[i] = r.state;
    const std::string score = r.evaluated ? fmt::format("  loss {:.3f}  acc_tok {:.3f}  acc_seq {:.3f}", r.last.loss,
                                                        r.last.acc_tok, r.last.acc_seq)
                                          : "";
    note(fmt::format("{}: {} at step {}{}{}", name_of(i), to_string(r.state), r.step, score,
                     r.state == RunState::diverged || r.state == RunState::failed ? "  " + r.reason : ""));
  }
}

void SweepBoard::draw(const std::vector<RunRecord>& records, int64_t workers) {
  if (quiet_) return;
  tell_endings(records);
  if (terminal_) {
    const std::string text = printable(running_table(records) + summary(records, workers)) + "\n";
    erase();
    fmt::print(stderr, "{}", text);
    lines_ = std::count(text.begin(), text.end(), '\n');
  } else if (std::chrono::duration<double>(Clock::now() - last_).count() >= kSecondsBetweenSummaries) {
    last_ = Clock::now();
    fmt::print(stderr, "{}\n", summary(records, workers));
  }
}

}  // namespace klab
