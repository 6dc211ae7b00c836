// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/rank_environment.h"

#include <charconv>
#include <cstdlib>
#include <functional>
#include <optional>

#include "core/base/error.h"

namespace klab {
namespace {

constexpr int64_t kMostRanks = 1 << 20;
constexpr int64_t kFirstPort = 20000, kPorts = 12000;  // below the ports that Linux gives to outgoing connections

class Variables {
 public:
  explicit Variables(const std::function<const char*(const char*)>& variable) : variable_(variable) {}

  std::optional<std::string> text(const char* name) const {
    const char* value = variable_(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  }

  bool has(const char* name) const { return text(name).has_value(); }

  std::string needed(const char* name, const std::string& why) const {
    const auto value = text(name);
    if (!value || value->empty()) refuse("the environment variable {} is not set: {}", name, why);
    return *value;
  }

  // A number in [least, most].
  int64_t number(const char* name, int64_t least, int64_t most, const std::string& why) const {
    const std::string value = needed(name, why);
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least || number > most) {
      refuse("the environment variable {} is '{}': it must be an integer from {} to {}", name, value, least, most);
    }
    return number;
  }

 private:
  const std::function<const char*(const char*)>& variable_;
};

// "node[03-05,9],other" to "node03".
std::string first_node(const std::string& list) {
  const size_t bracket = list.find('['), comma = list.find(',');
  if (bracket == std::string::npos || comma < bracket) return list.substr(0, comma);
  const size_t end = list.find_first_of("-,]", bracket);
  return list.substr(0, bracket) + list.substr(bracket + 1, end - bracket - 1);
}

void set_rank(RankEnvironment& environment, const Variables& variables, const char* rank, const char* size) {
  const std::string why = fmt::format("{} starts every rank with {} and {}", environment.launcher, rank, size);
  environment.size = variables.number(size, 1, kMostRanks, why);
  environment.rank = variables.number(rank, 0, environment.size - 1, why);
}

void set_local_rank(RankEnvironment& environment, const Variables& variables, const char* variable) {
  if (variables.has(variable)) environment.local_rank = variables.number(variable, 0, environment.size - 1, "");
}

// The store of a launcher that names none: MASTER_ADDR and MASTER_PORT, else `host` and a port by the job's name.
void set_store(RankEnvironment& environment, const Variables& variables, const std::optional<std::string>& host,
               const std::string& job) {
  if (variables.has("MASTER_ADDR") || !host) {
    environment.host = variables.needed(
        "MASTER_ADDR", environment.launcher + " has ranks on several machines: set it to the address of rank 0's");
  } else {
    environment.host = *host;
  }
  environment.port = static_cast<uint16_t>(
      variables.has("MASTER_PORT")
          ? variables.number("MASTER_PORT", 1, 65535, "")
          : kFirstPort + static_cast<int64_t>(std::hash<std::string>()(job) % static_cast<size_t>(kPorts)));
}

RankEnvironment of_torchrun(const Variables& variables) {
  RankEnvironment environment{.launcher = "torchrun"};
  set_rank(environment, variables, "RANK", "WORLD_SIZE");
  set_local_rank(environment, variables, "LOCAL_RANK");
  environment.host = variables.needed("MASTER_ADDR", "torchrun sets it to the address of the store");
  environment.port =
      static_cast<uint16_t>(variables.number("MASTER_PORT", 1, 65535, "torchrun sets it to the port of the store"));
  environment.store_is_served = variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  environment.prefix = "klab/" + variables.text("TORCHELASTIC_RESTART_COUNT").value_or("0");
  return environment;
}

RankEnvironment of_srun(const Variables& variables) {
  RankEnvironment environment{.launcher = "srun"};
  set_rank(environment, variables, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS");
  set_local_rank(environment, variables, "SLURM_LOCALID");
  const std::string nodes = variables.needed("SLURM_STEP_NODELIST", "srun sets it to the nodes of the step");
  const std::string job =
      variables.text("SLURM_JOB_ID").value_or("") + "." + variables.text("SLURM_STEP_ID").value_or("");
  set_store(environment, variables, first_node(nodes), job);
  environment.prefix = "klab/" + job;
  return environment;
}

RankEnvironment of_mpirun(const Variables& variables) {
  RankEnvironment environment{.launcher = "mpirun"};
  const bool open_mpi = variables.has("OMPI_COMM_WORLD_SIZE");
  set_rank(environment, variables, open_mpi ? "OMPI_COMM_WORLD_RANK" : "PMI_RANK",
           open_mpi ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE");
  set_local_rank(environment, variables, open_mpi ? "OMPI_COMM_WORLD_LOCAL_RANK" : "MPI_LOCALRANKID");
  const char* here = open_mpi ? "OMPI_COMM_WORLD_LOCAL_SIZE" : "MPI_LOCALNRANKS";
  const bool one_machine = variables.text(here) == std::to_string(environment.size);
  const std::string job = variables.text("PMIX_NAMESPACE").value_or("");
  set_store(environment, variables, one_machine ? std::optional<std::string>("127.0.0.1") : std::nullopt, job);
  environment.prefix = "klab/" + job;
  return environment;
}

}  // namespace

RankEnvironment rank_environment(const std::function<const char*(const char*)>& variable) {
  const Variables variables(variable);
  if (variables.has("RANK") || variables.has("WORLD_SIZE")) return of_torchrun(variables);
  if (variables.has("SLURM_STEP_NUM_TASKS") && variables.text("SLURM_STEP_NUM_TASKS") != "1") return of_srun(variables);
  if (variables.has("OMPI_COMM_WORLD_SIZE") || variables.has("PMI_SIZE")) return of_mpirun(variables);
  return {};
}

RankEnvironment rank_environment() {
  return rank_environment([](const char* name) { return std::getenv(name); });
}

}  // namespace klab
