// SPDX-License-Identifier: Apache-2.0
// torch's library contains gloo, but its packages come without gloo's headers, which torch's ProcessGroupGloo.hpp
// includes. These declarations are what that header needs: klab only passes pointers to these types on, so their layout
// does not matter, and no other version of gloo can differ from the library's.
#pragma once

#include <chrono>
#include <memory>

namespace gloo {
namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

class Context {
 public:
  void setTimeout(std::chrono::milliseconds limit);
};
}  // namespace gloo
