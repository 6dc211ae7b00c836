// Runs gnuplot, the program that draws.
#pragma once

#include <string>

namespace klab {

/// A text as gnuplot's string, whatever it holds, where markup is off (noenhanced). In a `tic`'s
/// label a percent sign would start a number format.
std::string gnuplot_text(const std::string& text, bool tic = false);

/// Runs a script that sets its terminal and no output, and keeps what it draws in the file `out`, which holds
/// the whole new picture or what it held before. Throws Error when gnuplot is missing or fails.
void run_gnuplot(const std::string& script, const std::string& out);

}  // namespace klab
