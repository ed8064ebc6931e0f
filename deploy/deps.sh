#!/usr/bin/env bash
# deps.sh [--check|--list]: installs the Debian 12 packages that Trireme is built and tested with, and does nothing when
# none is missing. This is the one list of them.
#   --check   installs nothing; names what is missing and exits with 1 if anything is
#   --list    prints the list
set -euo pipefail

packages=(
  # tools
  build-essential cmake ninja-build pkg-config ccache mold python3
  # gRPC and protobuf
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  # libraries of the broker and its command
  librocksdb-dev libboost1.81-dev libabsl-dev libspdlog-dev libcli11-dev libtomlplusplus-dev prometheus-cpp-dev
  libjemalloc-dev libssl-dev nlohmann-json3-dev
  # tests, benchmarks and the Python examples
  libgtest-dev libgmock-dev libbenchmark-dev python3-grpcio python3-protobuf
)

case "${1:-}" in
  --list) printf '%s\n' "${packages[@]}"; exit 0 ;;
  --check | '') ;;
  *) echo "deps.sh: unknown argument '$1' (known: --check, --list)" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "deps.sh: no dpkg-query here. Trireme is built on Debian 12; elsewhere, install what corresponds to:" >&2
  echo "  ${packages[*]}" >&2
  exit 1
fi

installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done

if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
if [ "${1:-}" = --check ]; then
  echo "missing: ${missing[*]}"
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "deps.sh: these packages are missing, and installing them takes root or sudo: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Through env, because sudo does not pass the caller's variables on.
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" \
    >"$log" 2>&1
}

echo "Installing ${#missing[@]} packages: ${missing[*]}"
apt update || echo "deps.sh: apt-get update failed; going on with the package lists at hand" >&2
if ! apt install -y --no-install-recommends "${missing[@]}" </dev/null; then
  tail -n 30 "$log" >&2
  echo "deps.sh: apt-get install failed; the lines above are its own" >&2
  exit 1
fi
