#!/usr/bin/env bash
# build.sh PRESET [TARGET...]: configures and builds into build/PRESET (everything, without targets). Says how far it is;
# shows the compiler's words only when something is wrong.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=${1:?usage: build.sh PRESET [TARGET...]}
shift
cd "$root"

# Lets ccache serve a clone in another folder, and the precompiled headers.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime

# A compile against gRPC's headers takes up to 1.5 GB.
memory_kb=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo)
jobs=$(nproc)
by_memory=$((memory_kb / 1500000))
[ "$by_memory" -ge "$jobs" ] || jobs=$((by_memory > 1 ? by_memory : 1))
jobs=${TRIREME_BUILD_JOBS:-$jobs}

mkdir -p "build/$preset"
configure_log=build/$preset/configure.log
if ! cmake --preset "$preset" >"$configure_log" 2>&1; then
  cat "$configure_log" >&2
  echo "build.sh: configuring with the preset '$preset' failed" >&2
  exit 1
fi

targets=()
[ $# -eq 0 ] || targets=(--target "$@")
started=$SECONDS
if [ -t 1 ]; then
  NINJA_STATUS='[%p] ' cmake --build "build/$preset" -j "$jobs" "${targets[@]}"
else
  # Every tenth part of the way, and whatever is not a step.
  NINJA_STATUS='@%p@ ' cmake --build "build/$preset" -j "$jobs" "${targets[@]}" 2>&1 | awk '
    /^@ *[0-9]+%@ / {
      percent = substr($0, 2) + 0
      if (percent >= mark) { printf "building: %d%%\n", percent; fflush(); mark = percent - percent % 10 + 10 }
      next
    }
    /^ninja: no work to do/ { next }
    { print; fflush() }'
fi
echo "built build/$preset in $((SECONDS - started)) s"
