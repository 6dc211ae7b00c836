// SPDX-License-Identifier: Apache-2.0
#include "core/base/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/base/text.h"

extern char** environ;

namespace klab {
namespace {

// The texts as the null-terminated list of pointers that C functions take.
std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (std::string& text : texts) all.push_back(text.data());
  all.push_back(nullptr);
  return all;
}

std::vector<std::string> environment_with(const std::map<std::string, std::string>& more) {
  std::vector<std::string> all;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text = *variable;
    if (!more.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [name, value] : more) all.push_back(name + "=" + value);
  return all;
}

}  // namespace

Process::Process(const std::vector<std::string>& words, const Redirection& redirection) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("cannot create a pipe: {}", std::strerror(errno));
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  if (redirection.own_group) posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const std::string& input = redirection.input.empty() ? "/dev/null" : redirection.input;
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, input.c_str(), O_RDONLY, 0);
  if (redirection.inherit) {
    // Nothing to do.
  } else if (redirection.output.empty()) {
    posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  } else {
    constexpr int kFresh = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, redirection.output.c_str(), kFresh, 0666);
  }
  if (!redirection.inherit) posix_spawn_file_actions_adddup2(&files, ends[1], STDERR_FILENO);
  std::vector<std::string> copies = words, variables = environment_with(redirection.environment);
  const std::vector<char*> arguments = pointers(copies), environment = pointers(variables);
  const int error = ::posix_spawnp(&id_, arguments[0], &files, &attributes, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  ::close(ends[1]);
  pipe_ = ends[0];
  if (error != 0) {
    ::close(pipe_);
    fail("cannot start {}: {}", words[0], std::strerror(error));
  }
  ::fcntl(pipe_, F_SETFL, O_NONBLOCK);
}

Process::Process(Process&& other) noexcept
    : id_(std::exchange(other.id_, -1)),
      pipe_(std::exchange(other.pipe_, -1)),
      ended_(other.ended_),
      outcome_(other.outcome_),
      pending_(std::move(other.pending_)) {}

Process::~Process() {
  if (id_ > 0 && !ended_) {
    ::kill(id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
  }
  if (pipe_ >= 0) ::close(pipe_);
}

void Process::read_some() {
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = ::read(pipe_, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    pending_.append(buffer.data(), static_cast<size_t>(got));
  }
}

std::vector<std::string> Process::lines() {
  const bool over = ended();  // before reading: then the pipe has all of the output
  read_some();
  std::vector<std::string> all;
  for (size_t end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n')) {
    all.push_back(pending_.substr(0, end));
    pending_.erase(0, end + 1);
  }
  if (over && !pending_.empty()) all.push_back(std::exchange(pending_, ""));
  return all;
}

bool Process::ended() {
  if (ended_) return true;
  int status = 0;
  const pid_t got = ::waitpid(id_, &status, WNOHANG);
  if (got != id_) return false;
  ended_ = true;
  outcome_ = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  return true;
}

void Process::signal(int number) const {
  if (!ended_) ::kill(id_, number);
}

std::string output_of(const std::vector<std::string>& words, const Redirection& files) {
  Process process(words, files);
  std::vector<std::string> all;
  for (bool over = false; !over;) {
    over = process.ended();
    for (std::string& line : process.lines()) all.push_back(std::move(line));
    if (!over) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (process.outcome() != 0) fail("{} failed ({}): {}", words[0], process.outcome(), join(all, "\n"));
  return join(all, "\n");
}

bool has_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  for (const std::string& folder : split(path == nullptr ? "" : path, ':')) {
    const std::filesystem::path file = std::filesystem::path(folder) / name;
    std::error_code ignored;
    if (std::filesystem::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace klab
