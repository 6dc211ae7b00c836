// A sweep on the disk: DIR/plan.json, and per run DIR/<id>/ as `klab train` makes it, with status.json beside.
//
// The disk is all that launcher, workers and a later call share, so any of them may be killed at any time. A run is
// taken by an advisory lock on its folder, which its holder's death gives back.
#pragma once

#include <optional>
#include <string>

#include "core/train/status.h"
#include "experiments/sweep/plan.h"

namespace klab {

enum class RunState {
  waiting,   ///< nobody has begun it
  running,   ///< somebody has, and may be gone by now: its lock says
  parked,    ///< it waits for the runs before it to report (halving)
  finished,  ///< all steps, or as good as train.stop_at asks
  stopped,   ///< by halving
  diverged,  ///< loss or gradients left the finite numbers: the same every time
  failed,    ///< by anything else: tried again by a later call
};
std::string to_string(RunState state);
/// Throws Error for a word that is none.
RunState run_state_of(const std::string& word);
inline bool is_over(RunState state) { return state >= RunState::finished; }

/// What is known of a run, as in its status.json.
struct RunRecord {
  RunState state = RunState::waiting;
  std::string reason;  ///< of `stopped`, `diverged`, `failed`
  int64_t step = 0;
  bool evaluated = false;
  double loss = 0, acc_tok = 0, acc_seq = 0;                 ///< of the last evaluation, on the held-out stream
  double best_loss = 0, best_acc_tok = 0, best_acc_seq = 0;  ///< of the best one, by acc_seq, then loss
  int64_t parameters = 0, state_bytes = 0;
  double tokens_per_second = 0, seconds = 0;

  void set(const TrainStatus& status);

  template <class Self, class Visit>  // but for the state, which is a word
  static void each_field(Self& self, const Visit& visit) {
    visit("reason", self.reason);
    visit("step", self.step);
    visit("evaluated", self.evaluated);
    visit("loss", self.loss);
    visit("acc_tok", self.acc_tok);
    visit("acc_seq", self.acc_seq);
    visit("best_loss", self.best_loss);
    visit("best_acc_tok", self.best_acc_tok);
    visit("best_acc_seq", self.best_acc_seq);
    visit("parameters", self.parameters);
    visit("state_bytes", self.state_bytes);
    visit("tokens_per_second", self.tokens_per_second);
    visit("seconds", self.seconds);
  }
};

class SweepFolder {
 public:
  explicit SweepFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string plan() const { return path_ + "/plan.json"; }
  std::string results() const { return path_ + "/results.csv"; }
  std::string curves() const { return path_ + "/curves.csv"; }
  std::string evaluations() const { return path_ + "/evaluations.csv"; }
  RunFolder run(const std::string& id) const { return RunFolder{path_ + "/" + id}; }
  std::string config(const std::string& id) const { return run(id).path + "/config.yaml"; }

  Plan read_plan() const;
  RunRecord read(const std::string& id) const;
  /// Durably for what is over; else in a hurry: a power cut may lose it, but never leave half.
  void write(const std::string& id, const RunRecord& record) const;

 private:
  std::string path_;
};

/// Sole holder of a file's advisory lock until it ends, or its process does.
class Lock {
 public:
  /// Nothing when somebody else holds it. Throws Error when the file cannot be made.
  static std::optional<Lock> take(const std::string& path);
  Lock(Lock&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  Lock& operator=(Lock&&) = delete;
  ~Lock();

 private:
  explicit Lock(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace klab
