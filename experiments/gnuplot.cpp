#include "experiments/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"

extern char** environ;

namespace klab {
namespace {

namespace fs = std::filesystem;

// A name that is gone at the end, whatever happens.
struct Temporary {
  explicit Temporary(std::string name) : path(std::move(name)) {}
  ~Temporary() { ::unlink(path.c_str()); }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  const std::string path;
};

// Runs gnuplot without a shell and without the user's own settings; returns its wait status. It reads and
// writes open files, for it would take a name that begins with '|' or '<' for a command.
int spawn(const std::string& script, const std::string& image, const std::string& log) {
  constexpr int kFresh = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, script.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, image.c_str(), kFresh, 0666);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log.c_str(), kFresh, 0600);
  std::string program = "gnuplot", defaults = "--default-settings";
  char* const arguments[] = {program.data(), defaults.data(), nullptr};
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, "gnuplot", &files, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&files);
  if (error == ENOENT) {
    fail("gnuplot, which draws the pictures, is not installed: apt-get install gnuplot-nox (or gnuplot)");
  }
  if (error != 0) fail("cannot start gnuplot: {}", std::strerror(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail("lost sight of gnuplot: {}", std::strerror(errno));
  }
  return status;
}

}  // namespace

// Backticks would run a command. Single quotes would need no escapes but for themselves, and gnuplot 5.4 misreads a
// doubled one at the beginning.
std::string gnuplot_text(const std::string& text, bool tic) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '`') {
      out += "\\140";
    } else if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c == '%' && tic) {
      out += "%%";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out + "\"";
}

void run_gnuplot(const std::string& script, const std::string& out) {
  make_writable_folder(fs::absolute(out).parent_path().string());
  const std::string beside = fmt::format("{}.tmp.{}", out, ::getpid());
  const Temporary image(beside), commands(beside + ".gp"), log(beside + ".log");
  write_file(commands.path, script);
  const int status = spawn(commands.path, image.path, log.path);
  if (status != 0 || fs::file_size(image.path) == 0) {
    const std::string words = read_file(log.path);
    fail("gnuplot could not draw '{}': {}", out, words.empty() ? "it gave no reason" : words);
  }
  std::error_code error;
  fs::rename(image.path, out, error);
  if (error) fail("cannot rename to '{}': {}", out, error.message());
}

}  // namespace klab
