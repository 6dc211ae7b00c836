#include "kernels/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {
void recurrence_backward(const Problem&, const Rows&, const float*, const RecurrenceGradients&, void*, void*) {}
size_t recurrence_backward_workspace(const Problem&) { return 0; }
}
