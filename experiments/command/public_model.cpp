// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/public_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/memory.h"
#include "core/base/progress.h"
#include "core/base/text.h"
#include "core/public/kimi_chat.h"
#include "experiments/command/trained_model.h"
#include "experiments/run/device.h"
#include "mixers/registry.h"

namespace klab {
namespace {

constexpr double kGigabyte = 1e9;
constexpr size_t kLongestCharacter = 4;  // bytes in UTF-8

// The number of bytes of an incomplete UTF-8 character at the end of a text.
size_t unfinished(const std::string& text) {
  for (size_t back = 1; back <= std::min(kLongestCharacter - 1, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // continuation byte
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

void add_public_model_options(CommandOptions& app, PublicModelOptions& options) {
  app.add_option("--model", options.model,
                 "folder with config.json, safetensors and optionally tiktoken.model or tokenizer.json, or of a run of "
                 "klab train")
      .required();
  app.add_option(
         "--dtype", options.dtype,
         "dtype of the matrices: auto (as in the file), float32, bfloat16, float16, or int8 (with a scale per row)")
      .one_of({"auto", "float32", "bfloat16", "float16", "int8"})
      .show_default();
  app.add_flag("--mmap", options.mmap,
               "read matrices from memory-mapped files on use instead of loading them: for models larger than memory");
  app.add_renamed("--weights", "--mmap (without a value; without it weights are loaded)");
  app.add_option("--chunk", options.chunk, "prompt tokens per prefill chunk; limits memory")
      .between(1, 1 << 20)
      .show_default();
}

void add_answer_options(CommandOptions& app, AnswerOptions& options) {
  app.add_option("--max-new-tokens", options.max_new_tokens, "maximum number of tokens of an answer")
      .not_negative()
      .show_default();
  app.add_option("--temperature", options.sampling.temperature, "0: always the most probable token").show_default();
  app.add_option("--top-k", options.sampling.top_k, "sample from this many most probable tokens; 0: all")
      .show_default();
  app.add_option("--top-p", options.sampling.top_p, "and from the smallest set of tokens with this probability")
      .show_default();
  app.add_option("--stop", options.stop, "token ids that end an answer, in addition to the model's own")
      .comma_separated();
  app.add_flag("--ignore-eos", options.ignore_eos,
               "the model's own stop tokens do not end an answer; in a chat the end of the message does");
}

GenerationOptions generation_options(const AnswerOptions& answer, const PublicModelOptions& model,
                                     const PublicTokens& tokens, const Globals& globals, const Tokenizer* chat) {
  GenerationOptions options;
  options.max_new_tokens = answer.max_new_tokens;
  options.sampling = answer.sampling;
  options.sampling.seed = static_cast<uint64_t>(globals.seed.value_or(0));
  options.sampling.validate();
  options.chunk = model.chunk;
  options.stop = answer.stop;
  if (!answer.ignore_eos) options.stop.insert(options.stop.end(), tokens.stop.begin(), tokens.stop.end());
  if (chat != nullptr) options.stop.push_back(chat_end(*chat));
  return options;
}

bool stops(const GenerationOptions& options, int64_t token) {
  return std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end();
}

PublicModel open_public_model(const PublicModelOptions& options, const Globals& globals) {
  require_input(options.model);
  if (options.mmap && options.dtype != "auto") {
    refuse("--mmap uses the files' dtype and excludes --dtype {}", options.dtype);
  }
  if (options.mmap && is_run(options.model)) {
    refuse("--mmap needs a public checkpoint: klab export '{}' writes one", options.model);
  }
  const torch::Device device = open_device(globals.device);
  if (!device.is_cpu() && (options.mmap || options.dtype == "int8")) {
    refuse("--mmap and --dtype int8 are supported only on the CPU");
  }
  LoadOptions load{options.dtype, options.mmap, {}};
  std::optional<Progress> progress;
  load.progress = [&](uint64_t done, uint64_t all) {
    if (!progress) progress.emplace("loading", static_cast<int64_t>(all), 0, globals.quiet);
    progress->update(static_cast<int64_t>(done),
                     fmt::format("{:.1f} of {:.1f} GB", static_cast<double>(done) / kGigabyte,
                                 static_cast<double>(all) / kGigabyte));
  };
  PublicModel loaded = [&] {
    const ReturnFreedMemory while_loading;
    return is_run(options.model) ? load_run(options.model, options.dtype) : load_public(options.model, mixers(), load);
  }();
  progress.reset();
  if (!device.is_cpu()) loaded.model->to(device);
  if (!globals.quiet) {
    fmt::print(stderr, "{}: {} layers, {:.3f} GB of weights ({})", printable(options.model), loaded.config.layers,
               static_cast<double>(loaded.weight_bytes) / kGigabyte, options.mmap ? "mapped" : options.dtype);
    if (options.dtype == "int8") fmt::print(stderr, ", quantisation error {:.2f} %", 100 * loaded.quantisation_error);
    fmt::print(stderr, "\n");
  }
  return loaded;
}

std::optional<Tokenizer> open_tokenizer(const std::string& folder) {
  if (is_run(folder)) return tokenizer_of_run(folder);
  return Tokenizer::is_in(folder) ? std::optional(Tokenizer::load(folder)) : std::nullopt;
}

std::string TextStream::push(int64_t token) {
  if (tokenizer_->has(token)) held_ += tokenizer_->decode({token});
  const size_t behind = unfinished(held_);
  const std::string ready = repaired_utf8(std::string_view(held_).substr(0, held_.size() - behind));
  held_.erase(0, held_.size() - behind);
  return ready;
}

std::string TextStream::rest() { return repaired_utf8(std::exchange(held_, "")); }

std::string answer_text(const std::vector<int64_t>& answer, const GenerationOptions& options,
                        const Tokenizer& tokenizer) {
  TextStream stream(tokenizer);
  std::string text;
  for (size_t i = 0; i < answer.size(); ++i) {
    if (i + 1 < answer.size() || !stops(options, answer[i])) text += stream.push(answer[i]);
  }
  return text + stream.rest();
}

void print_text(const std::string& text) {
  fmt::print("{}", ::isatty(STDOUT_FILENO) == 1 ? printable(text) : text);
  std::fflush(stdout);
}

double decode_speed(const Generated& generated) {
  return generated.decode_seconds > 0 ? static_cast<double>(generated.decoded_tokens) / generated.decode_seconds : 0;
}

std::string speed_line(const Generated& generated) {
  const double prefill = static_cast<double>(generated.prompt_tokens) / std::max(1e-9, generated.prefill_seconds);
  return fmt::format("prefill: {} tokens in {:.2f} s ({:.1f} tokens/s); decode: {} tokens at {:.1f} tokens/s",
                     generated.prompt_tokens, generated.prefill_seconds, prefill, generated.decoded_tokens,
                     decode_speed(generated));
}

}  // namespace klab
