// SPDX-License-Identifier: Apache-2.0
// Fuzz targets: each runs a parser of the library on any bytes. A target may return, or throw klab::Error with a
// message; everything else is a finding.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace klab::fuzz {

using Target = void (*)(std::string_view input);

// One file per target; replay_test.cpp lists them too.
void answers(std::string_view input);
void checkpoint(std::string_view input);
void command_line(std::string_view input);
void command_words(std::string_view input);
void config(std::string_view input);
void config_flags(std::string_view input);
void csv(std::string_view input);
void json(std::string_view input);
void json_lines(std::string_view input);
void metrics(std::string_view input);
void plan(std::string_view input);
void public_config(std::string_view input);
void record(std::string_view input);
void safetensors(std::string_view input);
void sweep(std::string_view input);
void tiktoken(std::string_view input);
void tokenizer_json(std::string_view input);
void tokenizer_text(std::string_view input);
void weight_index(std::string_view input);

/// Runs the target on an input. Returns "", or what is wrong.
std::string finding(Target target, std::string_view input);

/// Inside a target: unless `holds`, `what` is a finding.
void expect(bool holds, const char* what);

/// A folder of this process's own, which is removed at its end.
const std::string& scratch_folder();

/// Writes a file in the scratch folder and returns its path.
std::string scratch_file(const std::string& name, std::string_view content);

/// What libFuzzer calls for every input: ends the program at a finding.
int run(Target target, const uint8_t* data, size_t size);

/// Splits at the first separator; without one the second part is empty.
std::pair<std::string_view, std::string_view> halves(std::string_view input, std::string_view separator);

}  // namespace klab::fuzz

// Ends a target's file: libFuzzer's entry point, which only programs with one target can have.
#ifdef KLAB_FUZZ
#define KLAB_FUZZ_TARGET(name)                                              \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) { \
    return klab::fuzz::run(klab::fuzz::name, data, size);                   \
  }
#else
#define KLAB_FUZZ_TARGET(name)
#endif
