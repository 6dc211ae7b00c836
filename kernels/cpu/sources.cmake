# The CPU kernels. Those on Highway are compiled once per instruction set (targets.h) and use nothing of ATen.
find_package(OpenMP REQUIRED COMPONENTS CXX)
# ATen's thread pool is OpenMP's, entered by a template in ATen's header: without this flag it runs on one thread.
set(workers "${CMAKE_SOURCE_DIR}/kernels/cpu/workers.cpp")
set_source_files_properties(${workers} PROPERTIES COMPILE_OPTIONS "${OpenMP_CXX_FLAGS}" SKIP_PRECOMPILE_HEADERS ON)
target_sources(klab_kernels PRIVATE ${workers})
target_link_libraries(klab_kernels PRIVATE ${OpenMP_CXX_LIBRARIES})
if(NOT KLAB_CPU_KERNELS)
  target_sources(klab_kernels PRIVATE "${CMAKE_SOURCE_DIR}/kernels/cpu/missing.cpp")
  return()
endif()
find_package(HWY 1.0.3)
if(NOT HWY_FOUND)
  message(FATAL_ERROR "Highway 1.0.3 or newer was not found: install it (Debian: libhwy-dev), or build without the CPU "
                      "kernels: -DKLAB_CPU_KERNELS=off.")
endif()
file(GLOB simd CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/kernels/cpu/recurrence_*.cpp" "${CMAKE_SOURCE_DIR}/kernels/cpu/short_conv.cpp"
     "${CMAKE_SOURCE_DIR}/kernels/cpu/norms.cpp" "${CMAKE_SOURCE_DIR}/kernels/cpu/latent_attention.cpp"
     "${CMAKE_SOURCE_DIR}/kernels/cpu/products.cpp" "${CMAKE_SOURCE_DIR}/kernels/cpu/experts.cpp")
set_source_files_properties(${simd} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
# Sanitizers on top of -O3 would take ten minutes a file.
if(KLAB_SANITIZE)
  set(simd_options -O1)
else()
  set(simd_options -O3)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  # What the others are built on top of: Highway has no vectors for less.
  list(APPEND simd_options -mssse3)
endif()
set_source_files_properties(${simd} PROPERTIES COMPILE_OPTIONS "${simd_options}")
target_sources(klab_kernels PRIVATE ${simd} "${CMAKE_SOURCE_DIR}/kernels/cpu/built.cpp")
target_link_libraries(klab_kernels PRIVATE hwy::hwy)
