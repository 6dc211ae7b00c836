// SPDX-License-Identifier: Apache-2.0
// Faults of system calls, for tests: which call fails and how. Settings, from environment variables:
//   KLAB_FAULT_UNDER   absolute path of a folder; only calls on what is below it count (spawns count always)
//   KLAB_FAULT         faults, separated by commas: <kind>:<n>:<what> meets the n-th call of its kind, and
//   <kind>:<n>+:<what>
//                      that one and all later ones. <what> is the name of an error (ENOSPC), which the call returns
//                      without effect; or the call is done, before it SHORT: half of the bytes only, SLEEP<ms>: a
//                      pause, SIG<name>: a signal to the process
//   KLAB_FAULT_COUNTS  a file of kKinds 64-bit numbers, the calls of each kind so far by all processes that share it
//   KLAB_FAULT_JOURNAL a file to which the changes of the folder are appended, see journal.h
//   KLAB_FAULT_CLOCK   seconds by which every second look at the wall clock is ahead
#pragma once

#include <cstddef>
#include <string>

namespace klab::faults {

// In the order of KLAB_FAULT_COUNTS.
enum Kind { kOpen, kRead, kWrite, kSync, kRename, kMap, kSpawn, kTruncate, kMakeFolder, kRemove, kKinds };
constexpr const char* kKindNames[kKinds] = {"open", "read",  "write",    "sync",  "rename",
                                            "mmap", "spawn", "truncate", "mkdir", "unlink"};

/// What happens to a call.
struct Verdict {
  int error = 0;       ///< it fails with this errno, unless 0
  bool cut = false;    ///< it handles half of its bytes
  bool counts = true;  ///< it concerns the folder
};

/// Counts a call; sleeps or signals where that is asked for.
Verdict count(Kind kind);
/// Of a call on a path (relative to the folder `descriptor`) or on an open file; others do not count.
Verdict count_path(Kind kind, const char* path, int descriptor);
Verdict count_open_file(Kind kind, int descriptor);

/// The absolute path; "" for one that is not below the folder.
std::string watched_path(const char* path, int descriptor);
std::string watched_path(int descriptor);

/// Seconds that the wall clock is ahead this time.
long clock_jump();

}  // namespace klab::faults
