// SPDX-License-Identifier: Apache-2.0
// Runs gnuplot.
#pragma once

#include <string>

namespace klab {

/// Quotes any text as a gnuplot string, for use without markup (noenhanced). `tic`: also escapes percent signs, which
/// would start a number format in a tic label.
std::string gnuplot_text(const std::string& text, bool tic = false);

/// Runs a script that sets its terminal but no output, and writes the picture to `out` atomically. Throws Error if
/// gnuplot is missing or fails.
void run_gnuplot(const std::string& script, const std::string& out);

}  // namespace klab
