// SPDX-License-Identifier: Apache-2.0
// The list of tasks. To add one: write tasks/NAME.h and tasks/NAME.cpp, which defines `TaskEntry NAME_task()`, and add
// one line X(NAME) here; related tasks may share files (the recall tasks are in tasks/recall.cpp). `klab tasks --list`
// prints them in this order.
#include "tasks/task.h"

#define KLAB_TASKS(X)   \
  X(palindrome)         \
  X(mqar)               \
  X(stack)              \
  X(forgetting_mqar)    \
  X(compositional_mqar) \
  X(in_context_recall)  \
  X(fuzzy_recall)       \
  X(noisy_recall)       \
  X(selective_copy)     \
  X(compression)        \
  X(memorization)       \
  X(needle)             \
  X(phonebook)          \
  X(state_tracking)     \
  X(cycle_navigation)   \
  X(modular_arithmetic) \
  X(dyck)               \
  X(depo)               \
  X(brevo)              \
  X(capo)               \
  X(mano)               \
  X(lano)               \
  X(copy)               \
  X(arithmetic)         \
  X(question)           \
  X(text)               \
  X(language)           \
  X(jsonl)

namespace klab {

#define KLAB_DECLARE_TASK(name) TaskEntry name##_task();
KLAB_TASKS(KLAB_DECLARE_TASK)
#undef KLAB_DECLARE_TASK

const Registry<TaskEntry>& tasks() {
#define KLAB_LIST_TASK(name) name##_task(),
  static const Registry<TaskEntry> registry("task", {KLAB_TASKS(KLAB_LIST_TASK)});
#undef KLAB_LIST_TASK
  return registry;
}

}  // namespace klab
