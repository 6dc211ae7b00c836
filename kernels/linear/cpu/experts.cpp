// SPDX-License-Identifier: Apache-2.0
// Two parallel passes over the chosen experts: hidden activations from gate and up, then down. The tasks of the first
// pass split the hidden width of each expert. Those of the second split the width of the model and sum all experts of
// their columns, so that neither pass needs a reduction between tasks.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/cpu/experts.cpp"
#include "kernels/common/cpu/targets.h"
// Must come before the headers that are compiled once per instruction set:
#include "hwy/foreach_target.h"
#include "kernels/common/cpu/workers.h"
#include "kernels/linear/cpu/experts.h"
#include "kernels/linear/cpu/products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

int64_t widest(const ExpertsProblem& p) {
  int64_t width = 1;
  for (const ExpertVisit& visit : p.visits) width = HWY_MAX(width, visit.expert->gate.N);
  return width;
}

// Float32 buffers: x, the hidden activations of each slot, and the sums of each token.
struct Space {
  int64_t x_step, hidden_step;
  float *x, *hidden, *y;
  Space(const ExpertsProblem& p, float* memory)
      : x_step(row_step(p.D)), hidden_step(row_step(widest(p))), x(memory), hidden(x + p.tokens * x_step) {
    y = hidden + static_cast<int64_t>(p.token.size()) * hidden_step;
  }
};

struct Task {
  const ExpertVisit* visit;
  int64_t first;  // hidden row
};

// A task computes the same rows of gate and up. At most a stripe: the tasks of several experts keep all threads busy.
int64_t hidden_rows_per_task(const ExpertVisit& visit) { return HWY_MIN(kStripe, rows_per_task(visit.expert->gate)); }

std::vector<Task> hidden_tasks(const ExpertsProblem& p) {
  std::vector<Task> tasks;
  for (const ExpertVisit& visit : p.visits) {
    for (int64_t row = 0; row < visit.expert->gate.N; row += hidden_rows_per_task(visit)) {
      tasks.push_back({&visit, row});
    }
  }
  return tasks;
}

// silu(gate) up; all three padded to whole vectors.
HWY_INLINE void activate(const float* gate, const float* up, int64_t count, float* hidden) {
  for (int64_t n = 0; n < count; n += kLanes) {
    const Vec g = load(gate + n);
    store(hn::Mul(hn::Mul(g, sigmoid(g)), load(up + n)), hidden + n);
  }
}

// Zeros the rest of the last vector, so that no uninitialised memory is read.
HWY_INLINE void clear_rest(float* sums, int64_t rows, int64_t count) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = count; n < round_up(count, kLanes); ++n) sums[r * kSums + n] = 0;
  }
}

void hidden_rows(const ExpertsProblem& p, const Space& space, const Task& task) {
  const ExpertVisit& visit = *task.visit;
  const Expert& expert = *visit.expert;
  const int64_t count = HWY_MIN(hidden_rows_per_task(visit), expert.gate.N - task.first);
  HWY_ALIGN float gate[kGroup * kSums];
  HWY_ALIGN float up[kGroup * kSums];
  const float* rows[kGroup];
  for (int64_t slot = visit.first; slot < visit.first + visit.count; slot += kGroup) {
    const int64_t some = HWY_MIN(kGroup, visit.first + visit.count - slot);
    for (int64_t r = 0; r < some; ++r) rows[r] = space.x + p.token[static_cast<size_t>(slot + r)] * space.x_step;
    dots(expert.gate, task.first, count, rows, some, gate);
    dots(expert.up, task.first, count, rows, some, up);
    clear_rest(gate, some, count);
    clear_rest(up, some, count);
    for (int64_t r = 0; r < some; ++r) {
      activate(gate + r * kSums, up + r * kSums, count, space.hidden + (slot + r) * space.hidden_step + task.first);
    }
  }
}

void add_down(const ExpertsProblem& p, const Space& space, const ExpertVisit& visit, int64_t first, int64_t count) {
  HWY_ALIGN float sums[kGroup * kSums];
  const float* rows[kGroup];
  for (int64_t slot = visit.first; slot < visit.first + visit.count; slot += kGroup) {
    const int64_t some = HWY_MIN(kGroup, visit.first + visit.count - slot);
    for (int64_t r = 0; r < some; ++r) rows[r] = space.hidden + (slot + r) * space.hidden_step;
    dots(visit.expert->down, first, count, rows, some, sums);
    clear_rest(sums, some, count);
    for (int64_t r = 0; r < some; ++r) {
      const Vec weight = broadcast(p.weight[static_cast<size_t>(slot + r)]);
      float* y = space.y + p.token[static_cast<size_t>(slot + r)] * space.x_step + first;
      for (int64_t n = 0; n < count; n += kLanes) {
        store(hn::MulAdd(weight, load(sums + r * kSums + n), load(y + n)), y + n);
      }
    }
  }
}

void output_columns(const ExpertsProblem& p, const Space& space, int64_t first, int64_t count) {
  for (int64_t t = 0; t < p.tokens; ++t) {
    std::memset(space.y + t * space.x_step + first, 0, static_cast<size_t>(round_up(count, kLanes)) * sizeof(float));
  }
  for (const ExpertVisit& visit : p.visits) add_down(p, space, visit, first, count);
  for (int64_t t = 0; t < p.tokens; ++t) {
    store_row(space.y + t * space.x_step + first, count, p.y, p.y.offset(t, 0, 0) + first);
  }
}

constexpr int64_t kRowsPerTask = 16;

void add_row(const AddRowsProblem& p, int64_t i) {
  const int64_t padded = round_up(p.D, kLanes);
  auto* row = static_cast<float*>(scratch(static_cast<size_t>(padded) * sizeof(float)));
  load_row(p.rows, p.rows.offset(i, 0, 0), p.D, padded, row);
  float* y = p.y + p.token[i] * p.D;
  int64_t d = 0;
  for (; d + kLanes <= p.D; d += kLanes) {
    hn::StoreU(hn::MulAdd(broadcast(p.weight[i]), load(row + d), hn::LoadU(kFloats, y + d)), kFloats, y + d);
  }
  for (; d < p.D; ++d) y[d] += p.weight[i] * row[d];
}

}  // namespace

void add_rows(const AddRowsProblem& p) {
  run_tasks((p.count + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task) {
    const int64_t end = HWY_MIN(p.count, (task + 1) * kRowsPerTask);
    for (int64_t i = task * kRowsPerTask; i < end; ++i) add_row(p, i);
  });
}

int64_t experts_workspace(const ExpertsProblem& p) {
  return 2 * p.tokens * row_step(p.D) + static_cast<int64_t>(p.token.size()) * row_step(widest(p));
}

void experts(const ExpertsProblem& p, float* workspace) {
  const Space space(p, workspace);
  for (int64_t t = 0; t < p.tokens; ++t) {
    load_row(p.x, p.x.offset(t, 0, 0), p.D, round_up(p.D, kLanes), space.x + t * space.x_step);
  }
  const std::vector<Task> tasks = hidden_tasks(p);
  run_tasks(static_cast<int64_t>(tasks.size()),
            [&](int64_t task) { hidden_rows(p, space, tasks[static_cast<size_t>(task)]); });
  // A task reads the rows of all experts, so its strip is narrower than it would be for a single weight.
  const int64_t strip = 32;
  run_tasks((p.D + strip - 1) / strip,
            [&](int64_t task) { output_columns(p, space, task * strip, HWY_MIN(strip, p.D - task * strip)); });
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace klab::kernels::cpu {

HWY_EXPORT(experts);
HWY_EXPORT(experts_workspace);
HWY_EXPORT(add_rows);

void experts(const ExpertsProblem& problem, float* workspace) { HWY_DYNAMIC_DISPATCH(experts)(problem, workspace); }

void add_rows(const AddRowsProblem& problem) { HWY_DYNAMIC_DISPATCH(add_rows)(problem); }

int64_t experts_workspace(const ExpertsProblem& problem) { return HWY_DYNAMIC_DISPATCH(experts_workspace)(problem); }

}  // namespace klab::kernels::cpu
#endif
