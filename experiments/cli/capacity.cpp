// SPDX-License-Identifier: Apache-2.0
// klab capacity: the number of associations that a mixer stores, over the size of its state; trained, or the update
// rule alone.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/capacity/untrained.h"
#include "experiments/command/command.h"
#include "experiments/plot/plot.h"
#include "experiments/study/summary.h"
#include "experiments/sweep/sweep.h"
#include "experiments/sweep/sweep_file.h"

namespace klab {
namespace {

constexpr double kHeld = 0.99;  // required token accuracy

struct CapacityOptions {
  std::vector<std::string> mixers;
  bool untrained = false;
  std::vector<int64_t> widths, seeds;  // empty lists: the defaults
  std::vector<double> loads, lrs;
  double budget_hours = 0;
  std::vector<Assignment> flags;
};

// What a run is of; the other fields are equal in all runs.
struct Setting {
  std::string mixer;
  int64_t width = 0;
  double load = 0, lr = 0;
  int64_t seed = 0;
};

int64_t memory_of(const RunConfig& config) { return config.model.layers * config.model.heads * config.model.head_dim; }

// The keys that this command sets, and the option that decides them, if there is one.
const std::map<std::string, std::string>& own_keys() {
  static const std::map<std::string, std::string> keys = {{"label", ""},
                                                          {"model.pattern", "MIXER"},
                                                          {"model.head_dim", "--widths"},
                                                          {"train.lr", "--lrs"},
                                                          {"train.seed", "--seeds"},
                                                          {"task.name", ""},
                                                          {"task.mqar.pairs", "--loads"},
                                                          {"task.length", "--loads"},
                                                          {"task.vocab", "--loads"}};
  return keys;
}

void refuse_own_keys(const std::vector<Assignment>& flags) {
  for (const Assignment& flag : flags) {
    const auto own = own_keys().find(flag.key);
    if (own == own_keys().end()) continue;
    refuse("capacity sets {} itself{}", own->first, own->second.empty() ? "" : ", from " + own->second);
  }
}

// Whether a key is an option of another mixer than the setting's ("model.gla.short_conv").
bool is_of_another(const std::string& key, const std::vector<std::string>& mixers, const Setting& setting) {
  return std::any_of(mixers.begin(), mixers.end(), [&](const std::string& mixer) {
    return mixer != setting.mixer && key.starts_with("model." + mixer + ".");
  });
}

// MQAR in a sequence of four tokens per pair. The vocabulary is the same for all loads of a width, so that only the
// load differs.
RunConfig config_of(const CapacityOptions& options, const Setting& setting) {
  std::vector<Assignment> assignments;
  const auto set = [&](const char* key, const Value& value) { assignments.push_back({key, value, "capacity"}); };
  set("model.layers", 2);
  set("model.heads", 1);
  set("model.width", 64);
  set("train.steps", 2000);
  set("train.batch", 32);
  set("train.eval_every", 200);
  set("train.eval_examples", 256);
  for (const Assignment& flag : options.flags) {
    if (!is_of_another(flag.key, options.mixers, setting)) assignments.push_back(flag);
  }
  set("label", setting.mixer);
  set("task.name", "mqar");
  set("model.pattern", setting.mixer);
  set("model.head_dim", setting.width);
  set("train.lr", setting.lr);
  set("train.seed", setting.seed);
  RunConfig shape;  // to read layers and heads
  assign(shape, with_public_config(assignments));
  const auto pairs_of = [&](double share) {
    return std::max<int64_t>(1, std::llround(share * static_cast<double>(memory_of(shape))));
  };
  set("task.mqar.pairs", pairs_of(setting.load));
  set("task.length", std::max<int64_t>(8, 4 * pairs_of(setting.load)));
  set("task.vocab", std::max<int64_t>(8, 2 * pairs_of(*std::max_element(options.loads.begin(), options.loads.end()))));
  return make_run_config(assignments);
}

std::vector<RunConfig> configs_of(const CapacityOptions& options) {
  std::vector<RunConfig> configs;
  for (const std::string& mixer : options.mixers) {
    for (const int64_t width : options.widths) {
      for (const double load : options.loads) {
        for (const double lr : options.lrs) {
          for (const int64_t seed : options.seeds)
            configs.push_back(config_of(options, {mixer, width, load, lr, seed}));
        }
      }
    }
  }
  return configs;
}

// The number of pairs recalled with a state of one size.
struct Held {
  int64_t memory = 0, pairs = 0;
  bool all = true;  // true if the largest load was also recalled
};

struct Findings {
  std::map<std::pair<std::string, int64_t>, Held> held;  // by mixer and width
  CsvTable tried;
};

// Validation data choose the learning rate and each run's step; the accuracies are those of test data.
Findings analyse(const std::vector<RunSummary>& runs) {
  Findings findings;
  findings.tried.columns = {"mixer", "head_dim", "memory", "pairs", "load", "lr", "acc_tok", "acc_seq", "seeds"};
  const std::vector<std::string> keys = {"label", "model.head_dim", "task.mqar.pairs", "train.lr"};
  std::vector<RunGroup> cells = best_over(grouped(runs, keys), keys, "train.lr", "best_acc_tok");
  std::sort(cells.begin(), cells.end(), [](const RunGroup& a, const RunGroup& b) { return a.values < b.values; });
  for (const RunGroup& cell : cells) {
    const RunSummary& first = *cell.runs.front();
    const auto number = [&](const char* key) { return first.field(key).get<int64_t>(); };
    const std::string mixer = first.field("label").get<std::string>();
    const int64_t width = number("model.head_dim"), pairs = number("task.mqar.pairs"),
                  memory = number("model.layers") * number("model.heads") * width;
    const double tokens = mean_of(cell.metric("best_test_acc_tok"));
    findings.tried.rows.push_back(
        {mixer, fmt::format("{}", width), fmt::format("{}", memory), fmt::format("{}", pairs),
         fmt::format("{:.3f}", static_cast<double>(pairs) / static_cast<double>(memory)),
         fmt::format("{:g}", first.field("train.lr").get<double>()), fmt::format("{:.4f}", tokens),
         fmt::format("{:.4f}", mean_of(cell.metric("best_test_acc_seq"))), fmt::format("{}", cell.runs.size())});
    Held& held = findings.held[{mixer, width}];
    held.memory = memory;
    if (tokens >= kHeld) held.pairs = std::max(held.pairs, pairs);
    held.all = tokens >= kHeld;  // pairs increase: finally that of the largest load
  }
  return findings;
}

// capacity.png: pairs held over the size of the state; recall-WIDTH.png: tokens right over the load.
void draw(const std::string& out, const std::vector<int64_t>& widths) {
  PlotOptions held;
  held.files = {out + "/capacity.csv"};
  held.x = "memory";
  held.y = "held";
  held.group_by = "mixer";
  held.x_label = "layers x heads x key width";
  held.y_label = "pairs recalled at 99 %";
  held.title = "Associations that a mixer stores";
  held.out = out + "/capacity.png";
  plot(held);
  for (const int64_t width : widths) {
    PlotOptions recall;
    recall.files = {out + "/tried.csv"};
    recall.where = {fmt::format("head_dim={}", width)};
    recall.x = "load";
    recall.y = "acc_tok";
    recall.group_by = "mixer";
    recall.x_label = "pairs / (layers x heads x key width)";
    recall.y_label = "values recalled (test)";
    recall.title = fmt::format("Keys of width {}", width);
    recall.out = fmt::format("{}/recall-{}.png", out, width);
    plot(recall);
  }
}

void write(const Findings& findings, const CapacityOptions& options, int64_t threads, const std::string& out,
           const Globals& globals) {
  CsvTable tried = findings.tried;
  tried.comments = provenance(globals.command_line, static_cast<int>(threads));
  write_file(out + "/tried.csv", tried.text());
  CsvTable held{tried.comments, {"mixer", "head_dim", "memory", "held", "share"}, {}};
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, one] : findings.held) {
    held.rows.push_back({key.first, fmt::format("{}", key.second), fmt::format("{}", one.memory),
                         fmt::format("{}", one.pairs),
                         fmt::format("{:.3f}", static_cast<double>(one.pairs) / static_cast<double>(one.memory))});
    rows.push_back({key.first, fmt::format("{}", key.second), fmt::format("{}", one.memory),
                    fmt::format("{}{}", one.all ? ">= " : "", one.pairs), held.rows.back().back()});
  }
  write_file(out + "/capacity.csv", held.text());
  draw(out, options.widths);
  fmt::print("{}", format_table({"mixer", "key width", "layers x heads x key width", "pairs recalled at 99 %", "share"},
                                rows));
  fmt::print("{0}/capacity.csv, {0}/tried.csv, {0}/capacity.png, {0}/recall-*.png\n", out);
}

void refuse_flags_of_training(const CapacityOptions& options, const Globals& globals) {
  const auto refuse_if = [](bool given, const std::string& name) {
    if (given) refuse("capacity --untrained does not accept {}: nothing is trained", name);
  };
  refuse_if(!options.lrs.empty(), "--lrs");
  refuse_if(!options.seeds.empty(), "--seeds (use --seed)");
  refuse_if(options.budget_hours > 0, "--budget");
  refuse_if(globals.device != "cpu", "--device");
  if (!options.flags.empty()) refuse_if(true, "--" + options.flags.front().key);
}

int untrained(const CapacityOptions& options, const Globals& globals) {
  refuse_flags_of_training(options, globals);
  UntrainedOptions how;
  if (options.mixers.size() > 1) refuse("capacity --untrained takes one MIXER, not {}", options.mixers.size());
  if (!options.mixers.empty()) how.mixer = options.mixers.front();
  if (!options.widths.empty()) how.widths = options.widths;
  if (!options.loads.empty()) how.loads = options.loads;
  how.seed = static_cast<uint64_t>(globals.seed.value_or(1));
  how.quiet = globals.quiet;
  const std::vector<CapacityPoint> points = measure_untrained(how);
  const std::string out = globals.out.empty() ? "out/capacity-untrained" : globals.out;
  make_writable_folder(out);
  CsvTable table = table_of(points);
  table.comments = provenance(globals.command_line, at::get_num_threads());
  write_file(out + "/capacity.csv", table.text());
  draw_untrained(points, out + "/capacity.png");
  fmt::print("{0}{1}/capacity.csv, {1}/capacity.png\n", summary_of(points), out);
  return 0;
}

CapacityOptions with_defaults(CapacityOptions options) {
  if (options.widths.empty()) options.widths = {8, 16, 32};
  if (options.loads.empty()) options.loads = {0.25, 0.5, 0.75, 1, 1.5};
  if (options.lrs.empty()) options.lrs = {3e-3, 1e-2};
  if (options.seeds.empty()) options.seeds = {1};
  return options;
}

int trained(const CapacityOptions& options, const Globals& globals) {
  if (options.mixers.empty()) refuse("capacity needs MIXER, or --untrained");
  for (const std::string& mixer : options.mixers) mixers().at(mixer);  // rejects unknown mixers before anything runs
  refuse_own_keys(options.flags);
  if (globals.seed) refuse("capacity does not accept --seed: use --seeds {}", *globals.seed);
  const std::string name = "capacity-" + fmt::format("{}", fmt::join(options.mixers, "-"));
  const std::string out = globals.out.empty() ? "runs/" + name : globals.out;
  SweepOptions how;
  how.out = out + "/runs";
  how.threads = globals.threads;
  how.device = globals.device;
  how.quiet = globals.quiet;
  how.command_line = globals.command_line;
  how.budget_hours = options.budget_hours;
  const SweepOutcome outcome = run_sweep(make_sweep(name, configs_of(options)), how);
  std::vector<RunSummary> runs = summarise_sweep(SweepFolder(how.out));
  runs.erase(std::remove_if(runs.begin(), runs.end(), [](const RunSummary& run) { return !run.record.tested; }),
             runs.end());
  if (runs.empty()) fail("no run reached its end: use a larger --budget");
  write(analyse(runs), options, outcome.plan.threads, out, globals);
  if (outcome.out_of_time) fmt::print("the time limit was reached: repeat the command to continue\n");
  return outcome.failures() > 0 ? 1 : 0;
}

}  // namespace

Command capacity_command() {
  return {"capacity", "how many associations a mixer stores at 99 % accuracy, over state widths",
          "./klab capacity kda gdn --widths 8,16 --out runs/capacity",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<CapacityOptions>();
            app.add_option(
                "MIXER", options->mixers,
                "mixer names; with --untrained at most one: only its update rule and the special cases of it");
            app.add_flag("--untrained", options->untrained,
                         "random keys and values, written by the update rule with its best constant gates");
            app.add_option("--widths", options->widths, "key widths (default: 8,16,32; untrained: 16,32,64)")
                .comma_separated()
                .positive();
            app.add_option("--loads", options->loads,
                           "pairs as shares of layers x heads x key width (default: 0.25,0.5,0.75,1,1.5; untrained: up "
                           "to 3)")
                .comma_separated()
                .positive();
            app.add_option("--lrs", options->lrs, "learning rates; the best one is used (default: 0.003,0.01)")
                .comma_separated()
                .positive();
            app.add_renamed("--rates", "--lrs");
            app.add_option("--seeds", options->seeds, "seeds; results are averaged (default: 1)")
                .comma_separated()
                .not_negative();
            app.add_option("--budget", options->budget_hours, "time limit in hours; repeat the command to continue")
                .positive();
            add_run_flags(app, options->flags);
            return [options, &globals] {
              return options->untrained ? untrained(*options, globals) : trained(with_defaults(*options), globals);
            };
          }};
}

}  // namespace klab
