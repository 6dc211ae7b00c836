// SPDX-License-Identifier: Apache-2.0
// SIGINT and SIGTERM as a flag that long-running work checks between steps.
#pragma once

#include "core/base/error.h"

namespace klab {

/// From now on the two signals only set a flag; a second signal of the same kind ends the program.
void catch_interrupts();

/// The received signal, or 0.
int interrupt_requested();

/// Thrown by long-running work that a signal stopped, after it saved its state. The program exits with 128 + signal.
struct Interrupted : Error {
  Interrupted(int signal_number, const std::string& message) : Error(message), signal(signal_number) {}
  int signal;
};

}  // namespace klab
