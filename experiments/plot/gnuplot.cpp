// SPDX-License-Identifier: Apache-2.0
#include "experiments/plot/gnuplot.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/process.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

// A temporary file that is deleted at the end of its scope.
struct Temporary {
  explicit Temporary(std::string name) : path(std::move(name)) {}
  ~Temporary() { ::unlink(path.c_str()); }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  const std::string path;
};

}  // namespace

// Backticks would run a command. Double quotes, because gnuplot 5.4 misreads an escaped single quote at the beginning
// of a single-quoted string.
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

// Ignores the user's gnuplot settings. The script and image are passed as open files, because gnuplot would treat a
// file name that begins with '|' or '<' as a command.
void run_gnuplot(const std::string& script, const std::string& out) {
  if (!has_program("gnuplot")) {
    fail("gnuplot, which draws the pictures, is not installed: apt-get install gnuplot-nox (or gnuplot)");
  }
  make_writable_folder(fs::absolute(out).parent_path().string());
  const std::string beside = fmt::format("{}.tmp.{}", out, ::getpid());
  const Temporary image(beside), commands(beside + ".gp");
  write_file(commands.path, script);
  const std::string words = output_of({"gnuplot", "--default-settings"}, {commands.path, image.path});
  if (fs::file_size(image.path) == 0) fail("gnuplot drew nothing into '{}': {}", out, words);
  std::error_code error;
  fs::rename(image.path, out, error);
  if (error) fail("cannot rename to '{}': {}", out, error.message());
}

}  // namespace klab
