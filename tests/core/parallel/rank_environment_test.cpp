// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/rank_environment.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/base/support.h"

namespace klab {
namespace {

using Variables = std::map<std::string, std::string>;

RankEnvironment environment_of(const Variables& variables) {
  return rank_environment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

void expect_error(const Variables& variables, const std::vector<std::string>& parts) {
  const std::string error = message_of<UsageError>([&] { environment_of(variables); });
  for (const std::string& part : parts) EXPECT_TRUE(contains(error, part)) << error;
}

TEST(RankEnvironment, WithoutVariablesTheProcessIsAlone) {
  const RankEnvironment environment = environment_of({});
  EXPECT_EQ(environment.rank, 0);
  EXPECT_EQ(environment.size, 1);
}

TEST(RankEnvironment, Torchrun) {
  const Variables variables{{"RANK", "2"},
                            {"WORLD_SIZE", "4"},
                            {"MASTER_ADDR", "head"},
                            {"MASTER_PORT", "29400"},
                            {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                            {"TORCHELASTIC_RESTART_COUNT", "1"}};
  const RankEnvironment environment = environment_of(variables);
  EXPECT_EQ(environment.rank, 2);
  EXPECT_EQ(environment.size, 4);
  EXPECT_EQ(environment.host, "head");
  EXPECT_EQ(environment.port, 29400);
  EXPECT_TRUE(environment.store_is_served);
  EXPECT_EQ(environment.prefix, "klab/1");
}

TEST(RankEnvironment, SrunTakesTheFirstNodeAndAPortOfTheStep) {
  Variables variables{{"SLURM_PROCID", "1"},
                      {"SLURM_STEP_NUM_TASKS", "2"},
                      {"SLURM_JOB_ID", "77"},
                      {"SLURM_STEP_ID", "0"},
                      {"SLURM_STEP_NODELIST", "gpu[07-09,12],cpu1"}};
  const RankEnvironment environment = environment_of(variables);
  EXPECT_EQ(environment.rank, 1);
  EXPECT_EQ(environment.size, 2);
  EXPECT_EQ(environment.host, "gpu07");
  EXPECT_FALSE(environment.store_is_served);
  variables["SLURM_PROCID"] = "0";
  EXPECT_EQ(environment_of(variables).port, environment.port);
  EXPECT_EQ(environment_of(variables).prefix, environment.prefix);
  variables["SLURM_STEP_NODELIST"] = "one,two";
  EXPECT_EQ(environment_of(variables).host, "one");
  variables["MASTER_ADDR"] = "10.0.0.1";
  variables["MASTER_PORT"] = "4000";
  EXPECT_EQ(environment_of(variables).host, "10.0.0.1");
  EXPECT_EQ(environment_of(variables).port, 4000);
}

TEST(RankEnvironment, KnowsTheRankOnItsMachine) {
  const Variables torchrun{{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"MASTER_ADDR", "head"}, {"MASTER_PORT", "29400"}};
  EXPECT_EQ(environment_of(torchrun).local_rank, 0);
  Variables local = torchrun;
  local["LOCAL_RANK"] = "1";
  EXPECT_EQ(environment_of(local).local_rank, 1);
  EXPECT_EQ(environment_of({{"SLURM_PROCID", "5"},
                            {"SLURM_LOCALID", "2"},
                            {"SLURM_STEP_NUM_TASKS", "8"},
                            {"SLURM_STEP_NODELIST", "one,two"}})
                .local_rank,
            2);
  EXPECT_EQ(environment_of({{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "3"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "3"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}})
                .local_rank,
            1);
  expect_error({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}}, {"LOCAL_RANK", "'2'", "0 to 1"});
}

// A batch script, or a task of a job array: its variables name the job's tasks, but it is not one of several.
TEST(RankEnvironment, SlurmWithoutAStepOfSeveralTasksIsAlone) {
  EXPECT_EQ(environment_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}).size, 1);
  EXPECT_EQ(environment_of({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}).size, 1);
}

TEST(RankEnvironment, Mpirun) {
  const RankEnvironment open_mpi = environment_of({{"OMPI_COMM_WORLD_RANK", "1"},
                                                   {"OMPI_COMM_WORLD_SIZE", "3"},
                                                   {"OMPI_COMM_WORLD_LOCAL_SIZE", "3"},
                                                   {"PMIX_NAMESPACE", "5"}});
  EXPECT_EQ(open_mpi.rank, 1);
  EXPECT_EQ(open_mpi.size, 3);
  EXPECT_EQ(open_mpi.host, "127.0.0.1");
  EXPECT_EQ(environment_of({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MASTER_ADDR", "a"}}).host, "a");
}

TEST(RankEnvironment, ErrorsNameTheVariable) {
  expect_error({{"RANK", "0"}}, {"WORLD_SIZE", "not set", "torchrun"});
  expect_error({{"RANK", "x"}, {"WORLD_SIZE", "2"}}, {"RANK", "'x'", "0 to 1"});
  expect_error({{"RANK", "2"}, {"WORLD_SIZE", "2"}}, {"RANK", "'2'", "0 to 1"});
  expect_error({{"RANK", "0"}, {"WORLD_SIZE", "0"}}, {"WORLD_SIZE", "'0'"});
  expect_error({{"RANK", "0"}, {"WORLD_SIZE", "2"}}, {"MASTER_ADDR"});
  expect_error({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "99999"}},
               {"MASTER_PORT", "99999", "65535"});
  expect_error({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}},
               {"MASTER_ADDR", "several machines"});
}

}  // namespace
}  // namespace klab
