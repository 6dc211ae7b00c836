// SPDX-License-Identifier: Apache-2.0
// Which of how many processes this one is: from the environment that its launcher set.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace klab {

/// A process of a job. Rank 0 or the launcher serves the store (torch's TCPStore) at which all ranks meet.
struct RankEnvironment {
  std::string launcher{};  ///< "torchrun", "srun", "mpirun"; "" for a process on its own
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0;          ///< among the ranks of this machine
  std::string host = "127.0.0.1";  ///< of the store
  uint16_t port = 0;
  bool store_is_served = false;  ///< by the launcher
  std::string prefix{};          ///< of the store's keys, for a job that its launcher has started again
};

/// The variables of torchrun (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), of srun (SLURM_PROCID,
/// SLURM_STEP_NUM_TASKS), and of mpirun (Open MPI's OMPI_COMM_WORLD_*, MPICH's PMI_*), in this order. For srun and
/// mpirun MASTER_ADDR and MASTER_PORT override the first node of the step, this machine, and a port chosen by the job's
/// number. `variable` is std::getenv. Throws UsageError that names a variable which is missing or malformed.
RankEnvironment rank_environment();
RankEnvironment rank_environment(const std::function<const char*(const char*)>& variable);

}  // namespace klab
