// klab sweep-worker: started by klab sweep, not by people.
#include <memory>

#include "experiments/command/command.h"
#include "experiments/sweep/worker.h"

namespace klab {

Command sweep_worker_command() {
  return {"sweep-worker", "(what klab sweep starts to do its work)", "./klab sweep-worker sweeps/lr",
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto path = std::make_shared<std::string>();
            auto parent = std::make_shared<int64_t>(0);
            app.hide();
            app.add_option("DIR", *path, "folder of the sweep").required();
            app.add_option("--parent", *parent, "process to end with");
            return [path, parent, &globals] {
              return run_sweep_worker(*path, *parent, globals.device, globals.command_line);
            };
          }};
}

}  // namespace klab
