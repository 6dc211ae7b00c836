// SPDX-License-Identifier: Apache-2.0
// Visibility of the public interface.
#pragma once

/// Marks what the shared library libklab_kernels.so exports; the rest of kernels/ is compiled with hidden visibility.
#define KLAB_API __attribute__((visibility("default")))
