# SPDX-License-Identifier: Apache-2.0
# Install rules: the program, the kernel library, and its headers for find_package(klab). A wheel contains only the
# component `python`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(kernel_libraries klab_kernels)
if(KLAB_CUDA)
  list(APPEND kernel_libraries klab_cuda)
endif()
# torch's folder stays in the run path, because torch's libraries are not installed.
set_target_properties(${kernel_libraries} PROPERTIES INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH ON)
set_target_properties(klab_kernels PROPERTIES EXPORT_NAME kernels)
target_include_directories(
  klab_kernels INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
                         "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/klab>")

add_custom_target(klab_python DEPENDS ${kernel_libraries})
install(TARGETS ${kernel_libraries} LIBRARY DESTINATION klab COMPONENT python EXCLUDE_FROM_ALL)
install(TARGETS klab_kernels EXPORT klabTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp)
if(KLAB_CUDA)
  install(TARGETS klab_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp)
endif()
install(DIRECTORY kernels DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/klab COMPONENT cpp FILES_MATCHING PATTERN "*.h"
        PATTERN "cuda" EXCLUDE PATTERN "*-inl.h" EXCLUDE)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/klab)
install(EXPORT klabTargets NAMESPACE klab:: DESTINATION ${package} COMPONENT cpp)
configure_package_config_file(cmake/klabConfig.cmake.in "${CMAKE_BINARY_DIR}/klabConfig.cmake" INSTALL_DESTINATION ${package})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/klabConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/klabConfig.cmake" "${CMAKE_BINARY_DIR}/klabConfigVersion.cmake" cmake/Torch.cmake
        DESTINATION ${package} COMPONENT cpp)

# The program; experiments/CMakeLists.txt defines it.
function(klab_install_program target)
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${KLAB_TORCH_DIR}/lib")
  install(TARGETS ${target} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
endfunction()
