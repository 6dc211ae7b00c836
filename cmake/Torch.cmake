# Defines the imported targets torch::cpu and, if KLAB_CUDA is on, torch::cuda.
#
# find_package(Torch) is not used: with a CUDA build of torch it refuses to configure on a machine without the
# CUDA toolkit, and it links libtorch_cuda, which every process would then load (half a second per start).
# KLAB_TORCH_DIR is the folder with include/ and lib/; the launcher passes it, otherwise Python finds it.

if(NOT KLAB_TORCH_DIR)
  if(DEFINED Python_EXECUTABLE) # set by pip when it builds the wheel
    set(klab_python "${Python_EXECUTABLE}")
  elseif(EXISTS "${CMAKE_SOURCE_DIR}/.venv/bin/python")
    set(klab_python "${CMAKE_SOURCE_DIR}/.venv/bin/python")
  else()
    set(klab_python python3)
  endif()
  execute_process(
    # Without PYTHONPATH: during a build pip sets it to a folder that hides the installed packages.
    COMMAND "${CMAKE_COMMAND}" -E env --unset=PYTHONPATH "${klab_python}" -c
            "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE klab_torch_dir
    OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE klab_python_failed)
  if(klab_python_failed)
    message(FATAL_ERROR "torch was not found by ${klab_python}. Run ./klab build, which installs it into .venv, "
                        "or pass -DKLAB_TORCH_DIR=<folder with torch's include/ and lib/>.")
  endif()
  set(KLAB_TORCH_DIR "${klab_torch_dir}" CACHE PATH "Folder with torch's include/ and lib/")
endif()

foreach(library torch_cpu c10)
  if(NOT EXISTS "${KLAB_TORCH_DIR}/lib/lib${library}.so")
    message(FATAL_ERROR "KLAB_TORCH_DIR=${KLAB_TORCH_DIR} has no lib/lib${library}.so: it must be the folder of "
                        "an installed torch 2.11 (the Python package's own folder, or an unpacked libtorch).")
  endif()
endforeach()

add_library(torch::cpu INTERFACE IMPORTED)
target_include_directories(
  torch::cpu SYSTEM INTERFACE "${KLAB_TORCH_DIR}/include" "${KLAB_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(torch::cpu INTERFACE "${KLAB_TORCH_DIR}/lib/libtorch_cpu.so" "${KLAB_TORCH_DIR}/lib/libc10.so")

# Kernels need the CUDA runtime and torch's stream and allocator (libc10_cuda), not libtorch_cuda: the program
# loads that library itself when a CUDA device is requested.
if(KLAB_CUDA)
  add_library(torch::cuda INTERFACE IMPORTED)
  target_link_libraries(torch::cuda INTERFACE torch::cpu "${KLAB_TORCH_DIR}/lib/libc10_cuda.so" CUDA::cudart)
endif()
