// SPDX-License-Identifier: Apache-2.0
// Checks the options that a user adds to the launcher's call of sbatch.
#include <algorithm>
#include <array>
#include <string_view>

#include "core/base/error.h"
#include "experiments/sweep/launcher.h"

namespace klab {
namespace {

struct TakenOption {
  std::string_view name;
  char letter;  // 0: it has none
  std::string_view reason;
};

constexpr std::string_view kOutput = "what the tasks print is in slurm-*.out in the sweep's folder";
constexpr std::string_view kNoJob = "nothing would be submitted";
constexpr std::array kTaken = {
    TakenOption{"job-name", 'J', "the sweep finds its tasks by a job name of its own"},
    TakenOption{"array", 'a', "--workers sets the number of tasks"},
    TakenOption{"parsable", 0, "the sweep sets it"},
    TakenOption{"clusters", 'M', "the sweep looks for its tasks on the default cluster"},
    TakenOption{"wait", 'W', "the sweep waits for its tasks itself"},
    TakenOption{"output", 'o', kOutput},
    TakenOption{"error", 'e', kOutput},
    TakenOption{"chdir", 'D', "relative paths of the runs begin in the folder of this command"},
    TakenOption{"wrap", 0, "the sweep writes the script"},
    TakenOption{"test-only", 0, kNoJob},
    TakenOption{"help", 'h', kNoJob},
    TakenOption{"usage", 'u', kNoJob},
    TakenOption{"version", 'V', kNoJob},
};
constexpr std::string_view kLettersWithoutValue = "hHIkOQsuvVW";

template <class Is>
void refuse_taken(const std::string& word, const Is& is) {
  const auto found = std::find_if(kTaken.begin(), kTaken.end(), is);
  if (found == kTaken.end()) return;
  refuse("--slurm: '{}': a sweep does not accept --{}: {}. Leave it out", word, found->name, found->reason);
}

// sbatch accepts the beginning of a name for the name. Returns whether the value may be the next word.
bool check_long(const std::string& word) {
  const std::string_view name = std::string_view(word).substr(2, word.find('=') - 2);
  refuse_taken(word, [&](const TakenOption& taken) { return taken.name.starts_with(name); });
  return word.find('=') == std::string::npos;
}

// "-Hpgpu" is -H and -p gpu. Returns whether the value may be the next word.
bool check_letters(const std::string& word) {
  for (size_t i = 1; i < word.size(); ++i) {
    refuse_taken(word, [&](const TakenOption& taken) { return taken.letter == word[i]; });
    if (kLettersWithoutValue.find(word[i]) == std::string_view::npos) return i + 1 == word.size();
  }
  return false;
}

}  // namespace

void require_free_slurm_options(const std::vector<std::string>& words) {
  bool value_may_follow = false;
  for (const std::string& word : words) {
    if (word.starts_with("--") && word.size() > 2) {
      value_may_follow = check_long(word);
    } else if (word.starts_with("-") && word.size() > 1 && word != "--") {
      value_may_follow = check_letters(word);
    } else if (value_may_follow) {
      value_may_follow = false;
    } else {
      refuse("--slurm: '{}' is not an option of sbatch: write --name=value, separated by blanks and without quotes",
             word);
    }
  }
}

}  // namespace klab
