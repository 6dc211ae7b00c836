# SPDX-License-Identifier: Apache-2.0
# klab_library(<folder> [COLD] [BATCHED] [SUBFOLDERS] [SANITIZED] USES <targets...> [PCH <headers...>])
#
# Defines one static library per folder: core/model becomes klab_core_model, with all .cpp files directly in that
# folder. Only targets that link it can include its headers, as "core/model/x.h", so an include against the layering
# does not compile. Links are private: a library names every library that it uses. COLD: code that is not
# performance-critical (command-line parsing, reports, config) is compiled with little optimisation and as one
# translation unit, because torch's headers take seconds per unit. BATCHED: several files are one translation unit, so
# the names of their anonymous namespaces must differ; folders in which a new file stands by itself (a mixer, a task)
# are not. SUBFOLDERS: also the .cpp files of direct subfolders. SANITIZED: there is also <name>_sanitized, for tests.
function(klab_library folder)
  cmake_parse_arguments(arg "COLD;BATCHED;SUBFOLDERS;SANITIZED" "" "USES;PCH" ${ARGN})
  string(REPLACE "/" "_" name "klab_${folder}")
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/${folder}/*.cpp")
  if(arg_SUBFOLDERS)
    file(GLOB more CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/${folder}/*/*.cpp")
    list(APPEND sources ${more})
  endif()
  set(targets ${name})
  if(arg_SANITIZED AND KLAB_SANITIZED_TESTS)
    list(APPEND targets ${name}_sanitized)
  endif()
  foreach(target ${targets})
    add_library(${target} STATIC ${sources})
    klab_include_root(${target} ${folder})
    target_link_libraries(${target} PRIVATE klab_options ${arg_USES})
    if(NOT target STREQUAL name)
      klab_sanitize(${target})
    endif()
    if(arg_COLD)
      klab_compile_cold(${target})
      set_target_properties(${target} PROPERTIES UNITY_BUILD ${KLAB_UNITY} UNITY_BUILD_BATCH_SIZE 0)
    endif()
    if(arg_BATCHED)
      klab_compile_batched(${target})
    endif()
    if(arg_PCH)
      klab_precompile(${target} ${arg_PCH})
    endif()
  endforeach()
endfunction()

# klab_sanitize(<target>): compiles with the sanitizers of addresses and undefined behaviour; a finding ends the program.
function(klab_sanitize target)
  target_compile_options(${target} PRIVATE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g1)
  target_link_options(${target} PRIVATE -fsanitize=address,undefined)
  set_target_properties(${target} PROPERTIES KLAB_SANITIZED ON)
endfunction()

# klab_include_root(<target> <folder>): targets that link <target> can include "<folder>/x.h", and nothing else of the
# tree.
function(klab_include_root target folder)
  set(include_root "${CMAKE_BINARY_DIR}/include-roots/${target}")
  cmake_path(GET folder PARENT_PATH parent)
  file(MAKE_DIRECTORY "${include_root}/${parent}")
  file(CREATE_LINK "${CMAKE_SOURCE_DIR}/${folder}" "${include_root}/${folder}" SYMBOLIC)
  target_include_directories(${target} PUBLIC "$<BUILD_INTERFACE:${include_root}>")
endfunction()

# klab_compile_cold(<target>): compiles with -O1 in release builds.
function(klab_compile_cold target)
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)
endfunction()

# klab_compile_batched(<target> [<files apart...>]): six files are one translation unit; the named files are not.
function(klab_compile_batched target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${KLAB_UNITY} UNITY_BUILD_BATCH_SIZE 6)
  set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# klab_precompile(<target> <headers...>): one precompiled header per distinct list, shared by all targets that request
# the same one, and another by sanitized targets.
function(klab_precompile target)
  string(MAKE_C_IDENTIFIER "klab_pch_${ARGN}" pch)
  get_target_property(sanitized ${target} KLAB_SANITIZED)
  if(sanitized)
    string(APPEND pch "_sanitized")
  endif()
  if(NOT TARGET ${pch})
    file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/${pch}.cpp" CONTENT "")
    add_library(${pch} STATIC "${CMAKE_BINARY_DIR}/${pch}.cpp")
    target_link_libraries(${pch} PRIVATE klab_options torch::cpu)
    if(sanitized)
      klab_sanitize(${pch})
    endif()
    list(TRANSFORM ARGN REPLACE "(.+)" "<\\1>" OUTPUT_VARIABLE headers)
    target_precompile_headers(${pch} PRIVATE ${headers})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${pch})
endfunction()
