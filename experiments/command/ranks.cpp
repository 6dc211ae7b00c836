// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/ranks.h"

#include "core/base/error.h"
#include "core/base/version.h"
#include "core/parallel/launch.h"

namespace klab {

int on_ranks(const Globals& globals,
             const std::function<int(const Globals& here, const Parallelism& parallelism)>& work) {
  const RankEnvironment environment = rank_environment();
  const int64_t processes = globals.processes;
  if (processes > 1 && environment.size == 1) return launch_ranks(processes, globals.words, globals.threads);
  if (processes > 0 && processes != environment.size) {
    refuse("--processes {}, but {} has started {} processes", processes, environment.launcher, environment.size);
  }
  Globals here = globals;
  here.quiet = globals.quiet || environment.rank > 0;
  const auto ranks = RankGroup::join(environment, std::chrono::seconds(globals.rank_limit));
  int code = 0;
  ranks->run([&] {
    ranks->require_same("command", globals.command_line);
    ranks->require_same("version of klab", std::string(version()) + " " + std::string(commit()));
    here.layout.ranks = ranks->size();
    code = work(here, Parallelism::of(ranks, here.layout));
  });
  return code;
}

}  // namespace klab
