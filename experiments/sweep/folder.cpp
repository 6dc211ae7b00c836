#include "experiments/sweep/folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace klab {
namespace {

constexpr std::array<const char*, 7> kStates = {"waiting", "running",  "parked", "finished",
                                                "stopped", "diverged", "failed"};

std::string text_of(const RunRecord& r) {
  nlohmann::ordered_json json{{"state", to_string(r.state)}};
  json.update(to_object(r));
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string to_string(RunState state) { return kStates.at(static_cast<size_t>(state)); }

RunState run_state_of(const std::string& word) {
  for (size_t i = 0; i < kStates.size(); ++i) {
    if (word == kStates[i]) return static_cast<RunState>(i);
  }
  fail("'{}' is no state of a run", word);
}

void RunRecord::set(const TrainStatus& status) {
  step = status.step;
  tokens_per_second = status.tokens_per_second;
  seconds = status.seconds;
  evaluated = status.test.targets > 0;
  if (!evaluated) return;
  loss = status.test.loss();
  acc_tok = status.test.acc_tok();
  acc_seq = status.test.acc_seq();
  const Score& best = status.best.targets > 0 ? status.best : status.test;
  best_loss = best.loss();
  best_acc_tok = best.acc_tok();
  best_acc_seq = best.acc_seq();
}

Plan SweepFolder::read_plan() const { return plan_of(read_file(plan()), plan()); }

RunRecord SweepFolder::read(const std::string& id) const {
  const std::string path = run(id).path + "/status.json";
  RunRecord r;
  if (!std::filesystem::exists(path)) return r;
  const std::string text = read_file(path);
  if (text.empty()) return r;  // a power cut took what was written in a hurry; checkpoint and metrics know better
  const auto json = parse_json(text, path);
  try {
    r.state = run_state_of(json.at("state").get<std::string>());
    from_object(json, r);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not the status of a run: {}", path, error.what());
  }
  return r;
}

void SweepFolder::write(const std::string& id, const RunRecord& record) const {
  const std::string path = run(id).path + "/status.json", text = text_of(record);
  if (is_over(record.state)) return write_file(path, text);
  const std::string beside = path + ".tmp";
  {
    std::ofstream out(beside, std::ios::trunc);
    out << text;
    out.flush();
    if (!out) fail("cannot write '{}': {}", beside, std::strerror(errno));
  }
  std::error_code error;
  std::filesystem::rename(beside, path, error);
  if (error) fail("cannot rename to '{}': {}", path, error.message());
}

std::optional<Lock> Lock::take(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) fail("cannot open '{}': {}", path, std::strerror(errno));
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return Lock(descriptor);
  const int reason = errno;
  ::close(descriptor);
  if (reason == EWOULDBLOCK) return {};
  fail("cannot lock '{}': {}", path, std::strerror(reason));
}

Lock::~Lock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace klab
