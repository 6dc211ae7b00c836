// SPDX-License-Identifier: Apache-2.0
// Nothing is needed from this header of gloo; see context.h.
#pragma once
