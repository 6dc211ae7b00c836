// SPDX-License-Identifier: Apache-2.0
#include "core/base/interrupt.h"

#include <csignal>

namespace klab {
namespace {

volatile std::sig_atomic_t pending = 0;

void set_pending(int signal_number) {
  pending = signal_number;
  std::signal(signal_number, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, set_pending);
  std::signal(SIGTERM, set_pending);
}

int interrupt_requested() { return pending; }

}  // namespace klab
