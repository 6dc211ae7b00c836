// SPDX-License-Identifier: Apache-2.0
// klab sweep-worker: the worker process of klab sweep.
#include <memory>

#include "experiments/command/command.h"
#include "experiments/sweep/worker.h"

namespace klab {

Command sweep_worker_command() {
  return {"sweep-worker", "(worker process of klab sweep)", "./klab sweep-worker sweeps/lr",
          takes::threads | takes::device, [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto path = std::make_shared<std::string>();
            auto parent = std::make_shared<int64_t>(0);
            app.hide();
            app.add_option("DIR", *path, "folder of the sweep").required();
            app.add_option("--parent", *parent, "parent process; the worker ends with it");
            return [path, parent, &globals] {
              return run_sweep_worker(*path, *parent, globals.device, globals.command_line);
            };
          }};
}

}  // namespace klab
