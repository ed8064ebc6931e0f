#!/usr/bin/env bash
# Generates the Python stubs of the public API with Debian's protoc and gRPC plugin:
#
#   client/examples/stubs.sh [DIR]      # build/stubs if not given
#
# Needs protobuf-compiler and protobuf-compiler-grpc, and python3-grpcio and python3-protobuf to use them. Other languages
# do the same with their own plugins.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/build/stubs}
mkdir -p "$out"
cd "$root/proto"
protoc -I. --python_out="$out" --grpc_python_out="$out" --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" \
  trireme/v1/message.proto trireme/v1/broker.proto trireme/v1/admin.proto trireme/v1/cluster.proto
echo "$out"
