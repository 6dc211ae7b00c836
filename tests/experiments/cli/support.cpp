// SPDX-License-Identifier: Apache-2.0
#include "experiments/cli/support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/text.h"

namespace klab {
namespace fs = std::filesystem;

Finished klab(const std::vector<std::string>& arguments, int signal, double seconds) {
  const std::string base = (fs::temp_directory_path() / ("klab-program-" + std::to_string(::getpid()))).string();
  const std::string out = base + ".out", err = base + ".err";
  const pid_t child = ::fork();
  if (child < 0) fail("cannot fork");
  if (child == 0) {
    std::vector<char*> argv{const_cast<char*>(KLAB_PROGRAM)};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    ::execv(KLAB_PROGRAM, argv.data());
    ::_exit(127);
  }
  if (signal != 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    ::kill(child, signal);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  Finished finished{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
  fs::remove(out);
  fs::remove(err);
  return finished;
}

ProgramTest::ProgramTest() {
  std::string name = (fs::temp_directory_path() / "klab-program-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw Error("cannot create a folder for the test");
  folder_ = name;
}

ProgramTest::~ProgramTest() { fs::remove_all(folder_); }

std::vector<std::string> tiny_run(const std::string& out, const std::vector<std::string>& more) {
  std::vector<std::string> flags = {"train",
                                    "--quiet",
                                    "--threads",
                                    "1",
                                    "--out",
                                    out,
                                    "--task.name",
                                    "mqar",
                                    "--task.length",
                                    "16",
                                    "--task.vocab",
                                    "16",
                                    "--model.width",
                                    "16",
                                    "--model.heads",
                                    "1",
                                    "--model.head_dim",
                                    "8",
                                    "--train.batch",
                                    "8",
                                    "--train.steps",
                                    "40",
                                    "--train.eval_every",
                                    "10",
                                    "--train.eval_examples",
                                    "16",
                                    "--train.checkpoint_every",
                                    "7"};
  for (size_t i = 0; i + 1 < more.size(); i += 2) {
    const auto found = std::find(flags.begin(), flags.end(), more[i]);
    if (found != flags.end()) {
      *(found + 1) = more[i + 1];
    } else {
      flags.insert(flags.end(), {more[i], more[i + 1]});
    }
  }
  return flags;
}

std::vector<std::string> timeless_rows(const std::string& path) {
  const CsvTable table = read_csv(path);
  std::vector<std::string> rows;
  for (const auto& row : table.rows) {
    std::vector<std::string> kept;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string& column = table.columns[c];
      if (column != "tokens_per_second" && column != "wait_share" && column != "seconds") kept.push_back(row[c]);
    }
    rows.push_back(join(kept, ","));
  }
  return rows;
}

}  // namespace klab
