// klab demo: KDA, Gated DeltaNet and Mamba2 race on a recall task at the edge of what their memory can hold.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/text.h"
#include "core/model/accounting.h"
#include "experiments/command.h"
#include "experiments/plot.h"
#include "experiments/run.h"
#include "experiments/table.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

// One setting for all: same width, heads, head width, data, steps and grid of learning rates.
const std::vector<std::string> kMixers = {"kda", "gdn", "mamba2"};
const std::vector<std::string> kLearningRates = {"1e-3", "3e-3", "1e-2"};
const std::vector<Assignment> kSetting = {
    {"task.name", "mqar", "demo"},      {"task.length", "32", "demo"},         {"task.vocab", "32", "demo"},
    {"model.layers", "2", "demo"},      {"model.width", "64", "demo"},         {"model.heads", "1", "demo"},
    {"model.head_dim", "16", "demo"},   {"train.batch", "32", "demo"},         {"train.steps", "2000", "demo"},
    {"train.eval_every", "50", "demo"}, {"train.eval_examples", "512", "demo"}};

struct Racer {
  std::string mixer, lr;
  RunConfig config;
  TrainStatus status;
  Accounting cost{};
  std::vector<TrainStatus> history;  // one per evaluation
  std::string state = "waiting";
};

// All racers, a few at a time, each on one thread of its own.
class Race {
 public:
  explicit Race(std::vector<Racer> racers) : racers_(std::move(racers)) {}

  /// Runs everything; `draw` is called from this thread several times a second. Rethrows the first failure that is not
  /// a racer's own divergence.
  void run(int workers, const std::function<void(const std::vector<Racer>&)>& draw) {
    std::atomic<int> active = workers;
    std::vector<std::thread> threads;
    for (int i = 0; i < workers; ++i) {
      threads.emplace_back([this, &active] {
        work();
        --active;
      });
    }
    while (active > 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      draw(snapshot());
    }
    for (std::thread& thread : threads) thread.join();
    if (error_) std::rethrow_exception(error_);
  }

  std::vector<Racer> snapshot() {
    const std::lock_guard lock(mutex_);
    return racers_;
  }

 private:
  void work() {
    for (;;) {
      const size_t i = next_++;
      if (i >= racers_.size() || error_) return;
      try {
        race(racers_[i]);
      } catch (const Interrupted&) {
        const std::lock_guard lock(mutex_);
        error_ = std::current_exception();
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex_);
        racers_[i].state = error.what();
      }
    }
  }

  void race(Racer& racer) {
    Trainer trainer = make_trainer(racer.config, RunFolder{}, {}, /*resume=*/false, torch::kCPU);
    {
      const std::lock_guard lock(mutex_);
      racer.cost = account(trainer.model(), racer.config.task.length);
      racer.state = "running";
    }
    const Outcome outcome = trainer.run([&](const TrainStatus& status, bool evaluated) {
      const std::lock_guard lock(mutex_);
      racer.status = status;
      if (evaluated) racer.history.push_back(status);
      return Next::step;
    });
    const std::lock_guard lock(mutex_);
    racer.state = outcome == Outcome::success ? "solved" : "finished";
  }

  std::vector<Racer> racers_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  std::exception_ptr error_;
};

std::vector<Racer> line_up(int64_t steps, const Globals& globals) {
  std::vector<Racer> racers;
  for (const std::string& mixer : kMixers) {
    for (const std::string& lr : kLearningRates) {
      std::vector<Assignment> assignments = kSetting;
      assignments.push_back({"model.pattern", mixer, "demo"});
      assignments.push_back({"train.lr", lr, "demo"});
      if (steps > 0) assignments.push_back({"train.steps", fmt::format("{}", steps), "--steps"});
      if (globals.seed) assignments.push_back({"train.seed", fmt::format("{}", *globals.seed), "--seed"});
      Racer& racer = racers.emplace_back();
      racer.mixer = mixer;
      racer.lr = lr;
      assign(racer.config, assignments);
      racer.config.validate();
    }
  }
  return racers;
}

// By held-out accuracy, then by who got there first, then by loss.
bool ahead(const Racer& x, const Racer& y) {
  const auto key = [](const Racer& racer) {
    const Score& best = racer.status.best.targets > 0 ? racer.status.best : racer.status.test;
    if (best.targets == 0) return std::tuple(-1.0, int64_t{0}, 0.0);
    return std::tuple(best.acc_seq(), -racer.status.step, -best.loss());
  };
  return key(x) > key(y);
}

std::vector<Racer> best_of_each(const std::vector<Racer>& racers) {
  std::vector<Racer> best;
  for (const std::string& mixer : kMixers) {
    const Racer* leader = nullptr;
    for (const Racer& racer : racers) {
      if (racer.mixer == mixer && (leader == nullptr || ahead(racer, *leader))) leader = &racer;
    }
    best.push_back(*leader);
  }
  return best;
}

std::string table_of(const std::vector<Racer>& racers) {
  std::vector<std::vector<std::string>> rows;
  for (const Racer& racer : racers) {
    const TrainStatus& status = racer.status;
    const Score& test = status.test;
    const bool scored = test.targets > 0, costed = racer.cost.parameters > 0;
    rows.push_back(
        {racer.mixer, racer.lr, costed ? fmt::format("{}", racer.cost.parameters) : "-",
         costed ? fmt::format("{}", racer.cost.state_bytes) : "-",
         fmt::format("{}/{}", status.step, racer.config.train.steps), scored ? fmt::format("{:.3f}", test.loss()) : "-",
         scored ? fmt::format("{:.3f}", test.acc_tok()) : "-", scored ? fmt::format("{:.3f}", test.acc_seq()) : "-",
         status.step > 0 ? short_count(status.tokens_per_second) : "-", racer.state});
  }
  return format_table(
      {"mixer", "lr", "parameters", "state bytes", "step", "loss", "acc_tok", "acc_seq", "tokens/s", ""}, rows);
}

// Redraws the table in place on a terminal, prints a line every few seconds elsewhere.
class LiveTable {
 public:
  explicit LiveTable(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) != 0) {}

  void draw(const std::vector<Racer>& racers) {
    if (quiet_) return;
    if (terminal_) {
      const std::string table = table_of(racers) + left(racers) + "\n";
      if (lines_ > 0) fmt::print(stderr, "\x1b[{}A\x1b[J", lines_);
      fmt::print(stderr, "{}", table);
      lines_ = std::count(table.begin(), table.end(), '\n');
      return;
    }
    if (std::chrono::duration<double>(Clock::now() - last_).count() < 5) return;
    last_ = Clock::now();
    for (const Racer& racer : racers) {
      if (racer.state != "running" || racer.status.test.targets == 0) continue;
      fmt::print(stderr, "{} lr {}: step {}/{}  acc_tok {:.3f}  acc_seq {:.3f}\n", racer.mixer, racer.lr,
                 racer.status.step, racer.config.train.steps, racer.status.test.acc_tok(), racer.status.test.acc_seq());
    }
    fmt::print(stderr, "{}\n", left(racers));
  }

 private:
  // Steps that are left, at the pace so far; runs that solve the task early make it shorter.
  std::string left(const std::vector<Racer>& racers) const {
    int64_t done = 0, remaining = 0;
    for (const Racer& racer : racers) {
      done += racer.status.step;
      const bool over = racer.state != "running" && racer.state != "waiting";
      remaining += over ? 0 : racer.config.train.steps - racer.status.step;
    }
    const double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double rate = static_cast<double>(done) / elapsed;
    return fmt::format("elapsed {}, at most {} left", clock_time(elapsed),
                       done > 0 ? clock_time(static_cast<double>(remaining) / rate) : "?");
  }

  bool quiet_, terminal_;
  int64_t lines_ = 0;
  Clock::time_point begin_ = Clock::now(), last_ = begin_;
};

CsvTable results(const std::vector<Racer>& racers, const std::vector<std::string>& comments) {
  CsvTable table{comments,
                 {"step", "split", "loss", "acc_tok", "acc_seq", "mixer", "lr", "seed", "parameters", "state_bytes",
                  "tokens_per_second", "wait_share"},
                 {}};
  for (const Racer& racer : racers) {
    for (const TrainStatus& at : racer.history) {
      const auto row = [&](const char* split, const Score& score) {
        table.rows.push_back({fmt::format("{}", at.step), split, fmt::format("{:.6f}", score.loss()),
                              fmt::format("{:.6f}", score.acc_tok()), fmt::format("{:.6f}", score.acc_seq()),
                              racer.mixer, racer.lr, fmt::format("{}", racer.config.train.seed),
                              fmt::format("{}", racer.cost.parameters), fmt::format("{}", racer.cost.state_bytes),
                              fmt::format("{:.0f}", at.tokens_per_second), fmt::format("{:.4f}", at.wait_share)});
      };
      row("train", at.train);
      row("test", at.test);
    }
  }
  return table;
}

int demo(int64_t steps, const Globals& globals) {
  const std::string folder = globals.out.empty() ? "results/demo" : globals.out;
  make_writable_folder(folder);
  Race race(line_up(steps, globals));
  RunConfig setting = race.snapshot()[0].config;
  const int workers = globals.threads > 0 ? globals.threads : at::get_num_threads();
  at::set_num_threads(1);  // models this small run faster side by side than on more threads each

  const int64_t pairs = setting.task.length / 4;
  fmt::print(
      "Associative recall (MQAR): read {} pairs of a key and a value, then say the value of each key that is asked "
      "for.\n{} layers x {} head x key width {}: a memory of {} x {} numbers a layer, for every mixer alike. Each "
      "mixer "
      "runs with\nevery learning rate of the same grid; all else is equal. A run ends when it answers {} held-out "
      "sequences without a fault.\n\n",
      pairs, setting.model.layers, setting.model.heads, setting.model.head_dim, setting.model.head_dim,
      setting.model.head_dim, setting.train.eval_examples);
  std::fflush(stdout);
  LiveTable live(globals.quiet);
  const Clock::time_point begin = Clock::now();
  race.run(workers, [&](const std::vector<Racer>& racers) { live.draw(racers); });

  const std::vector<Racer> racers = race.snapshot(), best = best_of_each(racers);
  const auto comments = provenance(globals.command_line, workers);
  write_file(folder + "/all_runs.csv", results(racers, comments).text());
  write_file(folder + "/demo.csv", results(best, comments).text());
  PlotOptions picture;
  picture.files = {folder + "/demo.csv"};
  picture.group_by = "mixer";
  picture.out = folder + "/demo.png";
  picture.title = fmt::format("Associative recall of {} pairs, best learning rate of each mixer", pairs);
  plot(picture);

  fmt::print("\nBest learning rate of each mixer, on held-out sequences, after {}:\n\n{}\n",
             clock_time(std::chrono::duration<double>(Clock::now() - begin).count()), table_of(best));
  fmt::print(
      "Why they differ: Mamba2 only adds to its memory, so every new pair blurs the ones before it, while GDN and KDA\n"
      "first erase what the key held (the delta rule), so all pairs fit into the same memory. KDA also learns a decay\n"
      "for every channel where GDN has one for a head: more to learn; what it is for shows nearer to a full memory\n"
      "(figure 4 of arXiv 2510.26692).\n\n");
  fmt::print("{0}/demo.csv, {0}/all_runs.csv, {0}/demo.png\n", folder);
  return 0;
}

}  // namespace

Command demo_command() {
  return {"demo", "KDA, Gated DeltaNet and Mamba2 race on a recall task", "./klab demo",
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto steps = std::make_shared<int64_t>(0);
            app.add_option("--steps", *steps, "stop every run after this many steps").positive();
            return [steps, &globals] { return demo(*steps, globals); };
          }};
}

}  // namespace klab
