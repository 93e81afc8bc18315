# A vcpkg port. Written and not run: see ../README.md. The source is a clone that REACTOR_SOURCE names.
set(SOURCE_PATH "$ENV{REACTOR_SOURCE}")
if(NOT EXISTS "${SOURCE_PATH}/CMakeLists.txt")
  message(FATAL_ERROR "set REACTOR_SOURCE to a clone of reactor")
endif()

vcpkg_check_features(OUT_FEATURE_OPTIONS FEATURES
  FEATURES
    deflate REACTOR_DEFLATE
    portable REACTOR_PORTABLE
    probes REACTOR_PROBES
    tls REACTOR_TLS
    websocket REACTOR_WEBSOCKET)
vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}" OPTIONS -DREACTOR_INSTALL=ON ${FEATURES})
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/reactor)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
