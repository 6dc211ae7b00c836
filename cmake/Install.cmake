# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where: the library of kernels with its public headers for find_package(klab), and the
# program. The wheel takes the component `python`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
