// SPDX-License-Identifier: Apache-2.0
// Every change of the watched folder, in order, for the simulation of power cuts. A record is a line
//   <operation> <offset> <length of the path> <length of the data>
// and then path and data. The path is the present one of the open file, after renames:
//   create, truncate  path      the file was opened
//   write             path, data   at an offset
//   cut               path      the length became the offset
//   sync              path      of a file, or of a folder
//   rename            path, data is the new path
//   mkdir, unlink     path
#pragma once

#include <mutex>
#include <string>
#include <string_view>

namespace klab::faults {

/// Holds the journal from before an operation until after its record: records are in the order of the operations.
std::unique_lock<std::mutex> journal_turn();
bool has_journal();
void record(const char* operation, long offset, std::string_view path, std::string_view data = {});

}  // namespace klab::faults
