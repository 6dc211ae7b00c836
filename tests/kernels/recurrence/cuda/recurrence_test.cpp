// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of the recurrence, emulated on the host: the check matrix with several schedules, and the detection
// of missing barriers.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cctype>

#include "core/check/evaluate.h"
#include "core/check/matrix.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/cuda/cells.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {
namespace {

using emulation::Schedule;
using kernels::Implementation;

const std::vector<const OperatorCase*>& family() {
  static const std::vector<const OperatorCase*> family = [] {
    const EmulatedDevice device;  // without it, a build without CUDA would list no CUDA forms
    std::vector<const OperatorCase*> all;
    for (const OperatorCase& op : operator_cases()) {
      if (op.name.starts_with("recurrence/")) all.push_back(&op);
    }
    return all;
  }();
  return family;
}

std::string name_of_case(const testing::TestParamInfo<const OperatorCase*>& info) {
  std::string name = info.param->name;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

// --- The matrix ---

class RecurrenceOnCuda : public OnEmulatedDevice, public testing::WithParamInterface<const OperatorCase*> {
 protected:
  void expect_matrix(at::ScalarType dtype, bool quick) { expect_cells_to_hold(*GetParam(), dtype, quick); }
};

TEST_P(RecurrenceOnCuda, Float32) { expect_matrix(at::kFloat, false); }
TEST_P(RecurrenceOnCuda, Bfloat16) { expect_matrix(at::kBFloat16, false); }
TEST_P(RecurrenceOnCuda, Float16) { expect_matrix(at::kHalf, true); }
TEST_P(RecurrenceOnCuda, LastWarpsFirst) {
  emulation::set_schedule(Schedule::descending);
  expect_matrix(at::kBFloat16, true);
}
TEST_P(RecurrenceOnCuda, WarpsInRandomOrder) {
  emulation::set_schedule(Schedule::shuffled, 7);
  expect_matrix(at::kFloat, true);
}

INSTANTIATE_TEST_SUITE_P(Family, RecurrenceOnCuda, testing::ValuesIn(family()), name_of_case);

// --- Launch configurations and options ---

class Recurrence : public OnEmulatedDevice {};

struct Sizes {
  int64_t B = 1, T = 70, H = 1, HV = 2, K = 64, V = 48;
};

NamedTensors kda_inputs(const Sizes& s, at::ScalarType dtype) {
  for (const OperatorCase* op : family()) {
    if (op->name != "recurrence/channel/delta") continue;
    Workload workload{"", s.B, s.T, s.H, s.HV, s.K, s.V};
    workload.initial_state = true;
    return copy_as(*op, op->inputs(workload, 5), dtype, at::kCPU);
  }
  throw std::logic_error("the family has no KDA");
}

kernels::RecurrenceInputs as_inputs(const NamedTensors& x) {
  kernels::RecurrenceInputs in;
  in.q = find(x, "q");
  in.k = find(x, "k");
  in.v = find(x, "v");
  in.g = find(x, "g");
  in.beta = find(x, "beta");
  in.initial_state = find(x, "initial_state");
  in.writes = in.k.size(1) / in.q.size(1);
  return in;
}

double relative_rms(const at::Tensor& x, const at::Tensor& y) {
  return ((x.to(at::kDouble) - y.to(at::kDouble)).norm() / y.to(at::kDouble).norm()).item<double>();
}

// Long enough to be split into parts along the sequence; the result is that of an unsplit sequence.
TEST_F(Recurrence, PartsOfALongSequenceAreJoinedExactly) {
  const at::NoGradGuard no_grad;
  const auto in = as_inputs(kda_inputs({.T = 4100, .HV = 1, .K = 20, .V = 16}, at::kFloat));
  const auto cuda = kernels::recurrence(in, Implementation::cuda), cpu = kernels::recurrence(in, Implementation::cpu);
  EXPECT_GT(launches(), 2) << "the sequence was not split into parts";
  EXPECT_LT(relative_rms(cuda.o, cpu.o), 2e-6);
  EXPECT_LT(relative_rms(cuda.final_state, cpu.final_state), 2e-6);
}

TEST_F(Recurrence, TwiceTheSameBits) {
  const auto in = as_inputs(kda_inputs({}, at::kBFloat16));
  const auto once = kernels::recurrence(in, Implementation::cuda);
  emulation::set_schedule(Schedule::shuffled, 3);
  const auto twice = kernels::recurrence(in, Implementation::cuda);
  EXPECT_TRUE(at::equal(once.o, twice.o));
  EXPECT_TRUE(at::equal(once.final_state, twice.final_state));
}

TEST_F(Recurrence, TheStateMayBeOverwritten) {
  const at::NoGradGuard no_grad;
  for (const int64_t T : {1, 70}) {
    auto in = as_inputs(kda_inputs({.T = T}, at::kFloat));
    const auto expected = kernels::recurrence(in, Implementation::cuda);
    in.initial_state = in.initial_state.clone();
    in.overwrite_state = true;
    const auto out = kernels::recurrence(in, Implementation::cuda);
    EXPECT_EQ(out.final_state.data_ptr(), in.initial_state.data_ptr());
    EXPECT_TRUE(at::equal(out.final_state, expected.final_state));
  }
}

TEST_F(Recurrence, AllStatesAreTheStatesAfterEachToken) {
  const at::NoGradGuard no_grad;
  auto in = as_inputs(kda_inputs({.B = 2, .T = 5}, at::kFloat));
  in.output_all_states = true;
  for (const Implementation implementation : {Implementation::cuda, Implementation::cpu}) {
    const auto all = kernels::recurrence(in, implementation);
    ASSERT_EQ(all.all_states.sizes(), (std::vector<int64_t>{2, 5, 2, 64, 48}));
    EXPECT_TRUE(at::equal(all.all_states.select(1, 4), all.final_state));
    for (const int64_t T : {1, 3}) {
      auto prefix = in;
      prefix.output_all_states = false;
      for (at::Tensor* x : {&prefix.q, &prefix.k, &prefix.v, &prefix.g, &prefix.beta}) *x = x->narrow(1, 0, T);
      const auto expected = kernels::recurrence(prefix, Implementation::reference);
      EXPECT_LT(relative_rms(all.all_states.select(1, T - 1), expected.final_state), 1e-6);
      EXPECT_LT(relative_rms(all.o.narrow(1, 0, T), expected.o), 1e-6);
    }
  }
  in.q = in.q.clone().requires_grad_();
  const at::AutoGradMode enable(true);
  EXPECT_THROW(kernels::recurrence(in, Implementation::cuda), c10::ValueError);
}

// Unaligned rows and interleaved tensors, like views of one projection.
TEST_F(Recurrence, AnyStrides) {
  const at::NoGradGuard no_grad;
  auto in = as_inputs(kda_inputs({.B = 2, .T = 20, .HV = 1, .K = 24, .V = 24}, at::kBFloat16));
  const auto expected = kernels::recurrence(in, Implementation::cuda);
  const at::Tensor together = at::cat({in.q, in.k, in.v}, -1);  // rows of 72
  in.q = together.narrow(-1, 0, 24);
  in.k = together.narrow(-1, 24, 24);
  in.v = together.narrow(-1, 48, 24);
  EXPECT_TRUE(at::equal(kernels::recurrence(in, Implementation::cuda).o, expected.o));
  const at::Tensor odd = at::empty({2, 20, 1, 25}, in.q.options());
  in.q = odd.narrow(-1, 1, 24).copy_(in.q);
  EXPECT_TRUE(at::equal(kernels::recurrence(in, Implementation::cuda).o, expected.o));
}

TEST_F(Recurrence, WideFloat32HasNoBackwardPassAndSaysSo) {
  auto in = as_inputs(kda_inputs({.K = 200}, at::kFloat));
  in.q.requires_grad_();
  try {
    kernels::recurrence(in, Implementation::cuda);
    FAIL() << "it ran";
  } catch (const c10::NotImplementedError& error) {
    EXPECT_NE(std::string(error.what()).find("at most 128 channels in float32"), std::string::npos) << error.what();
  }
}

// --- Tiers --------------------------------------------------------------------------------------------------------

// Sets an environment variable that requests a launch configuration.
class Request {
 public:
  Request(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Request() { ::unsetenv(name_); }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

 private:
  const char* name_;
};

struct Tier : Request {
  explicit Tier(const char* name) : Request("KLAB_CUDA_TIER", name) {}
};

std::string last_plan() { return kernels::cuda::backend().recurrence_last_plan(); }

std::string plan_text(const std::string& tier, int consumers, int parts) {
  return tier + ", " + std::to_string(consumers) + (consumers == 1 ? " consumer, " : " consumers, ") +
         std::to_string(parts) + (parts == 1 ? " part" : " parts");
}

// Enough heads for blocks of whole warpgroups; V is not a multiple of a warpgroup's columns.
TEST_P(RecurrenceOnCuda, HopperTierGivesWhatThePortableOneDoes) {
  const at::NoGradGuard no_grad;
  for (const int64_t K : {40, 128}) {
    Workload workload{"", 2, 70, 2, 4, K, 72};
    workload.initial_state = true;
    const NamedTensors x = copy_as(*GetParam(), GetParam()->inputs(workload, 5), at::kBFloat16, at::kCPU);
    NamedTensors portable;
    {
      const Tier tier("portable");
      portable = GetParam()->run(Implementation::cuda, x);
    }
    const int64_t before = emulation::warpgroup_products();
    const Tier hopper("hopper");
    const NamedTensors actual = GetParam()->run(Implementation::cuda, x);
    EXPECT_GT(emulation::warpgroup_products(), before);
    EXPECT_LT(relative_rms(find(actual, "o"), find(portable, "o")), 1e-3);
    EXPECT_LT(relative_rms(find(actual, "final_state"), find(portable, "final_state")), 1e-3);
  }
}

// Rows of g that are not aligned to 16 bytes are read one number at a time; aligned rows of a wider tensor are copied.
TEST_F(Recurrence, AsynchronousCopiesOnlyOfAlignedRows) {
  const at::NoGradGuard no_grad;
  auto in = as_inputs(kda_inputs({.T = 40, .HV = 4, .K = 64, .V = 64}, at::kBFloat16));
  const int64_t start = emulation::async_copies();
  const auto expected = kernels::recurrence(in, Implementation::cuda);
  const int64_t all = emulation::async_copies() - start;
  for (const int64_t first : {8, 1}) {
    const at::Tensor wide = at::empty({1, 40, 4, 80}, in.g.options());
    auto view = in;
    view.g = wide.narrow(-1, first, 64).copy_(in.g);
    const int64_t before = emulation::async_copies();
    EXPECT_TRUE(at::equal(kernels::recurrence(view, Implementation::cuda).o, expected.o));
    EXPECT_EQ(emulation::async_copies() - before == all, first == 8);
  }
}

// v and o at any alignment and any even or odd width, against the aligned case.
TEST_F(Recurrence, ValuesNeedNoAlignment) {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    auto in = as_inputs(kda_inputs({.T = 37, .K = 24, .V = 45}, dtype));
    const auto expected = kernels::recurrence(in, Implementation::cuda);
    for (const int64_t first : {1, 2, 8}) {
      auto view = in;
      auto sizes = in.v.sizes().vec();
      sizes.back() = 64;
      view.v = at::empty(sizes, in.v.options()).narrow(-1, first, 45).copy_(in.v);
      EXPECT_TRUE(at::equal(kernels::recurrence(view, Implementation::cuda).o, expected.o)) << first;
    }
  }
}

TEST_F(Recurrence, AMissingWaitForCopiesIsNoticed) {
  const at::NoGradGuard no_grad;
  const auto in = as_inputs(kda_inputs({.T = 40, .HV = 4, .K = 64, .V = 64}, at::kBFloat16));
  const auto expected = kernels::recurrence(in, Implementation::cuda);
  emulation::ignore_barrier(emulation::kCopies);
  EXPECT_FALSE(at::equal(kernels::recurrence(in, Implementation::cuda).o, expected.o));
}

// Every tier, number of consumers and number of parts, forward and backward, against the same definition.
TEST_P(RecurrenceOnCuda, EveryLaunchConfigurationIsRight) {
  Workload workload{"", 1, 70, 1, 2, 64, 40};
  workload.initial_state = true;
  const auto cuda = std::find_if(GetParam()->forms.begin(), GetParam()->forms.end(),
                                 [](const Form& form) { return form.implementation == Implementation::cuda; });
  ASSERT_NE(cuda, GetParam()->forms.end());
  for (const std::string tier : {"portable", "hopper"}) {
    for (const int consumers : {1, 2, 4}) {
      if (tier == "hopper" && consumers != 4) continue;
      for (const int parts : {1, 2, 3, 5}) {
        if (consumers != 4 && parts % 2 == 0) continue;
        const Request a("KLAB_CUDA_TIER", tier), b("KLAB_CUDA_CONSUMERS", std::to_string(consumers)),
            c("KLAB_CUDA_PARTS", std::to_string(parts));
        const CheckRow row = check_cell(*GetParam(), *cuda, at::kBFloat16, workload);
        EXPECT_TRUE(row.pass) << tier << " " << consumers << " " << parts << "\n" << row.message;
        // The last launch of several parts is the one that writes o.
        EXPECT_EQ(last_plan(), plan_text(tier, consumers, parts));
      }
    }
  }
}

// The gradients are the same whether the states of all chunks are kept at once or of a window of tokens at a time, also
// for sequences that end before or inside a window.
TEST_P(RecurrenceOnCuda, WindowsOfTheBackwardPassAreRight) {
  const auto cuda = std::find_if(GetParam()->forms.begin(), GetParam()->forms.end(),
                                 [](const Form& form) { return form.implementation == Implementation::cuda; });
  ASSERT_NE(cuda, GetParam()->forms.end());
  for (const Workload& workload : GetParam()->workloads) {
    if (!workload.quick) continue;
    for (const int window : {16, 48}) {
      const Request request("KLAB_CUDA_WINDOW", std::to_string(window));
      const CheckRow row = check_cell(*GetParam(), *cuda, at::kBFloat16, workload);
      EXPECT_TRUE(row.pass) << "window " << window << "\n" << row.message;
    }
  }
}

// Keeping a window's states needs less memory than keeping all.
TEST_F(Recurrence, WindowsBoundTheWorkspace) {
  const auto bytes = [](int64_t T, const char* window) {
    const Request request("KLAB_CUDA_WINDOW", window);
    kernels::cuda::Problem p{};
    p.sequences = {1, T};
    p.H = p.HV = 64;
    p.K = p.V = 128;
    p.v.dtype = kernels::Dtype::bfloat16;
    return kernels::cuda::backend().recurrence_backward_workspace(p);
  };
  EXPECT_LT(bytes(65536, ""), size_t{3} << 30) << "64 heads of 128 at T = 65,536 needed 17 GB";
  EXPECT_LT(bytes(65536, "2048"), bytes(65536, "8192"));
  EXPECT_LT(bytes(8192, ""), bytes(65536, ""));
}

TEST_F(Recurrence, RequestsThatCannotBeMetAreErrors) {
  const at::NoGradGuard no_grad;
  const auto run = [](const NamedTensors& inputs) { kernels::recurrence(as_inputs(inputs), Implementation::cuda); };
  const NamedTensors narrow = kda_inputs({}, at::kBFloat16);
  for (const auto& [name, value] : {std::pair{"KLAB_CUDA_TIER", "volta"},
                                    {"KLAB_CUDA_CONSUMERS", "3"},
                                    {"KLAB_CUDA_CONSUMERS", "8"},
                                    {"KLAB_CUDA_CONSUMERS", "2x"},
                                    {"KLAB_CUDA_PARTS", "0"},
                                    {"KLAB_CUDA_PARTS", "1000"},
                                    {"KLAB_CUDA_WINDOW", "40"}}) {
    const Request request(name, value);
    EXPECT_THROW(run(narrow), c10::ValueError) << name << "=" << value;
  }
  const Tier hopper("hopper");
  EXPECT_NO_THROW(run(narrow));
  EXPECT_THROW(run(kda_inputs({}, at::kFloat)), c10::NotImplementedError);
  EXPECT_THROW(run(kda_inputs({.K = 200}, at::kBFloat16)), c10::NotImplementedError);
  const Request consumers("KLAB_CUDA_CONSUMERS", "2");
  EXPECT_THROW(run(narrow), c10::NotImplementedError);
}

// A device of compute capability 8.6 has 99 KiB, one of 8.0 has 163.
class SharedMemory : public Recurrence {
 protected:
  ~SharedMemory() override { emulation::set_shared_memory_limit(size_t{227} * 1024); }

  static std::string refusal(const NamedTensors& inputs) {
    try {
      kernels::recurrence(as_inputs(inputs), Implementation::cuda);
    } catch (const c10::NotImplementedError& error) {
      return error.what_without_backtrace();
    }
    return "";
  }
};

TEST_F(SharedMemory, KernelsThatDoNotFitAreNotLaunched) {
  const at::NoGradGuard no_grad;
  emulation::set_shared_memory_limit(size_t{99} * 1024);
  EXPECT_EQ(refusal(kda_inputs({.K = 128}, at::kBFloat16)), "");
  for (const OperatorCase* op : family()) {
    if (as_inputs(op->inputs({"", 1, 1, 1, 1, 16, 16}, 5)).update() != kernels::Update::dplr) continue;
    const auto wide = [&](int64_t T) {
      return copy_as(*op, op->inputs({"", 1, T, 1, 1, 256, 16}, 5), at::kBFloat16, at::kCPU);
    };
    EXPECT_NE(refusal(wide(20)).find("KiB of shared memory per block and the device has 99"), std::string::npos);
    EXPECT_EQ(refusal(wide(1)), "") << "steps need little shared memory";
  }
  emulation::set_shared_memory_limit(size_t{163} * 1024);
  for (const OperatorCase* op : family()) {
    for (const int64_t K : {64, 128, 256}) {
      Workload workload{"", 1, 20, 1, 1, K, 16};
      EXPECT_EQ(refusal(copy_as(*op, op->inputs(workload, 5), at::kBFloat16, at::kCPU)), "") << op->name << " " << K;
    }
  }
}

// A device with less shared memory gets fewer groups of producers, and the same bits.
TEST_F(SharedMemory, DecidesTheNumberOfProducers) {
  const at::NoGradGuard no_grad;
  const Tier portable("portable");
  const auto in = as_inputs(kda_inputs({.T = 100, .K = 128}, at::kBFloat16));
  const at::Tensor expected = kernels::recurrence(in, Implementation::cuda).o;
  for (const size_t kib : {48, 99, 163}) {
    emulation::set_shared_memory_limit(kib * 1024);
    EXPECT_TRUE(at::equal(kernels::recurrence(in, Implementation::cuda).o, expected)) << kib;
  }
}

// The emulation refuses blocks that are larger than the limit, so this checks that no kernel needs more than it says.
TEST_F(SharedMemory, TheStatedNeedSuffices) {
  for (const OperatorCase* op : family()) {
    for (const int64_t K : {40, 100, 200}) {
      Workload workload{"", 1, 20, 1, 1, K, 16};
      const auto update = as_inputs(op->inputs(workload, 5)).update();
      for (const bool backward : {false, true}) {
        const size_t needed =
            kernels::cuda::backend().recurrence_shared_memory(kernels::Dtype::bfloat16, update, K, backward);
        emulation::set_shared_memory_limit(needed);
        NamedTensors x = copy_as(*op, op->inputs(workload, 5), at::kBFloat16, at::kCPU);
        at::AutoGradMode mode(backward);
        if (backward) x[0].tensor.requires_grad_();
        const auto out = kernels::recurrence(as_inputs(x), Implementation::cuda);
        if (backward) {
          EXPECT_NO_THROW(torch::autograd::grad({out.o.sum()}, {x[0].tensor})) << op->name;
        }
        emulation::set_shared_memory_limit(needed - 1);
        EXPECT_THROW(kernels::recurrence(as_inputs(x), Implementation::cuda), c10::NotImplementedError) << op->name;
      }
    }
  }
}

// The Hopper tier was the faster one for keys of more than 64 channels, without DPLR; the gradients have no kernels of
// it.
TEST_F(Recurrence, TheTierIsChosenByShape) {
  const at::NoGradGuard no_grad;
  const auto plan_of = [](const NamedTensors& inputs) {
    kernels::recurrence(as_inputs(inputs), Implementation::cuda);
    return last_plan().substr(0, last_plan().find(','));
  };
  EXPECT_EQ(plan_of(kda_inputs({.K = 128}, at::kBFloat16)), "hopper");
  EXPECT_EQ(plan_of(kda_inputs({.K = 100}, at::kHalf)), "hopper");
  EXPECT_EQ(plan_of(kda_inputs({.K = 64}, at::kBFloat16)), "portable");
  EXPECT_EQ(plan_of(kda_inputs({.K = 200}, at::kBFloat16)), "portable");
  EXPECT_EQ(plan_of(kda_inputs({.K = 128}, at::kFloat)), "portable");
  const Request consumers("KLAB_CUDA_CONSUMERS", "2");
  EXPECT_EQ(plan_of(kda_inputs({.K = 128}, at::kBFloat16)), "portable");
}

TEST_F(Recurrence, StepsSayThatTheyAreSteps) {
  const at::NoGradGuard no_grad;
  kernels::recurrence(as_inputs(kda_inputs({.T = 1}, at::kBFloat16)), Implementation::cuda);
  EXPECT_EQ(last_plan(), "step");
}

// --- Barriers ---

// Forward and backward without one of the barriers: the results differ, or the emulation reports a deadlock.
class MissingBarrier : public OnEmulatedDevice, public testing::WithParamInterface<int> {
 protected:
  static at::Tensor everything() {
    NamedTensors inputs = kda_inputs({.T = 100, .K = 128}, at::kBFloat16);
    std::vector<at::Tensor> leaves;
    for (NamedTensor& x : inputs) leaves.push_back(x.tensor = x.tensor.detach().clone().requires_grad_());
    const auto out = kernels::recurrence(as_inputs(inputs), Implementation::cuda);
    const auto gradients = torch::autograd::grad({out.o.to(at::kFloat).square().sum()}, leaves);
    std::vector<at::Tensor> all{out.o.detach().flatten().to(at::kFloat)};
    for (const at::Tensor& x : gradients) all.push_back(x.flatten().to(at::kFloat));
    return at::cat(all);
  }
};

TEST_P(MissingBarrier, IsNoticed) {
  const at::Tensor expected = everything();
  emulation::ignore_barrier(GetParam());
  bool noticed = false;
  for (const Schedule schedule : {Schedule::ascending, Schedule::descending, Schedule::shuffled}) {
    emulation::set_schedule(schedule, 1);
    try {
      noticed = noticed || !at::equal(everything(), expected);
    } catch (const std::exception&) {
      noticed = true;
    }
  }
  EXPECT_TRUE(noticed);
}

// The barriers of a block (of the gradient kernel), of a group of producers, "stage full" and "stage empty".
INSTANTIATE_TEST_SUITE_P(Each, MissingBarrier, testing::Values(0, 1, 5, 9), testing::PrintToStringParamName());

}  // namespace
}  // namespace klab
