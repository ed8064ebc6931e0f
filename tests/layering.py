#!/usr/bin/env python3
"""Which layer may include what, checked against every source file and against CMake's links.

  layering.py ROOT [--links FILE]   checks a tree; FILE is what tests/layering.cmake writes
  layering.py --self-test           plants forbidden includes and links, and fails unless each is caught
"""

import os
import re
import sys
import tempfile
from dataclasses import dataclass, field

# What comes from outside, by the first part of an include's path.
OUTSIDE = {
    "rocksdb": "rocksdb", "grpc": "grpc", "grpcpp": "grpc", "grpc++": "grpc", "google": "protobuf",
    "absl": "absl", "boost": "boost", "spdlog": "spdlog", "fmt": "spdlog", "CLI": "cli", "toml++": "toml",
    "prometheus": "prometheus", "openssl": "openssl", "nlohmann": "json", "jemalloc": "jemalloc",
    "gtest": "gtest", "gmock": "gtest", "benchmark": "benchmark",
}
# The same, by the name of a link.
OUTSIDE_LINKS = [
    (r"RocksDB::", "rocksdb"), (r"(PkgConfig::GRPC|gRPC::|proto_services$)", "grpc"),
    (r"(protobuf::|proto_messages$)", "protobuf"),
]
# What a deterministic layer must not have at all: threads, files, and (as POSIX) sockets, clocks and the rest.
IMPURE = {"thread", "mutex", "shared_mutex", "condition_variable", "future", "semaphore", "latch", "barrier",
          "filesystem", "fstream", "iostream", "random_device", "csignal", "locale"}
ALL = set(OUTSIDE.values()) | {"posix"}
TEST = {"gtest", "benchmark"}


@dataclass
class Layer:
    folder: str
    # Our own headers: files, or folders with a slash at the end. Its own folder is always allowed.
    ours: list
    outside: set = field(default_factory=set)
    pure: bool = False


BASE = [f"raft/core/{name}.h" for name in ("bytes", "coding", "checksum", "check")]
# The most particular folder first.
LAYERS = [
    Layer("raft/core/", [], {"absl"}, pure=True),
    Layer("raft/host/", ["raft/core/"], {"absl", "spdlog"}, pure=True),
    Layer("raft/grpc/", ["raft/core/", "raft/host/", "proto:"], {"absl", "grpc", "protobuf", "boost", "spdlog", "openssl", "posix"}),
    Layer("storage/", ["raft/core/", "raft/host/log_store.h", "raft/host/snapshot_staging.h", "raft/host/index_rows.h"], {"absl", "rocksdb", "spdlog", "posix"}),
    Layer("broker/message/", BASE, {"absl"}, pure=True),
    Layer("broker/filter/", BASE + ["broker/message/"], {"absl"}, pure=True),
    Layer("broker/queue/", BASE + ["broker/message/", "broker/filter/"], {"absl"}, pure=True),
    Layer("broker/ops/", ["raft/core/check.h"], ALL - TEST - {"rocksdb", "grpc"}),
    Layer("broker/routing/", ["raft/core/", "raft/host/", "broker/message/", "broker/queue/", "broker/cluster/", "broker/ops/",
                             "proto:"], ALL - TEST - {"rocksdb", "grpc"}),
    Layer("broker/replica/", ["raft/core/", "raft/host/", "broker/message/", "broker/filter/", "broker/queue/", "broker/cluster/", "broker/ops/", "proto:"],
          ALL - TEST - {"rocksdb", "grpc"}),
    Layer("broker/temporary/", ["raft/core/", "raft/host/", "broker/queue/", "broker/replica/", "broker/cluster/", "broker/ops/", "proto:"],
          ALL - TEST - {"rocksdb", "grpc"}),
    Layer("broker/cluster/", ["raft/core/", "raft/host/", "broker/queue/", "broker/ops/", "proto:"], ALL - TEST - {"rocksdb", "grpc"}),
    Layer("broker/api/", ["raft/", "broker/", "proto:"], ALL - TEST - {"rocksdb"}),
    Layer("broker/", ["raft/", "storage/", "broker/", "proto:"], ALL - TEST - {"rocksdb"}),
    Layer("client/", ["proto:"], ALL - TEST - {"rocksdb"}),
    Layer("examples/", ["client/", "proto:"], ALL - TEST - {"rocksdb"}),
    Layer("tests/storage/", ["raft/", "storage/", "tests/"], ALL),
    Layer("tests/", ["raft/", "storage/", "broker/", "client/", "tests/", "proto:"], ALL - {"rocksdb"}),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SKIPPED = {"build", ".git", "node_modules", "__pycache__"}


def layer_of(path):
    return next((layer for layer in LAYERS if path.startswith(layer.folder)), None)


def allows(layer, target):
    return any(target == rule or (rule[-1] in "/:" and target.startswith(rule)) for rule in [layer.folder] + layer.ours)


def sources(root):
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED)
        for name in sorted(files):
            if name.endswith((".h", ".cc")):
                yield os.path.relpath(os.path.join(folder, name), root)


def includes(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as source:
        for number, line in enumerate(source, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(1) == '"', match.group(2)


def outside_kind(name):
    """What an include from outside belongs to; None for the standard library."""
    if name.endswith(".grpc.pb.h"):
        return "grpc"
    if name.endswith(".pb.h"):
        return "protobuf"
    first = name.split("/")[0]
    if "/" in name and first in OUTSIDE:
        return OUTSIDE[first]
    return "posix" if name.endswith(".h") else None


def check_includes(root):
    """Every forbidden arrow, as text; and every include of our own, as (file, header)."""
    problems, arrows = [], []
    for path in sources(root):
        layer = layer_of(path)
        if layer is None:
            problems.append(f"{path}: lies in no layer that tests/layering.py knows")
            continue
        for number, quoted, name in includes(root, path):
            where = f"{path}:{number}: {layer.folder} must not include {name}"
            ours = os.path.isfile(os.path.join(root, name))
            generated = name.endswith(".pb.h") and name.startswith("trireme/")
            if ours:
                arrows.append((path, name))
                if not allows(layer, name):
                    problems.append(f"{where}: not below it")
                continue
            if generated and not allows(layer, "proto:" + name):
                problems.append(f"{where}: no protobuf in this layer")
                continue
            kind = outside_kind(name)
            if quoted and kind in (None, "posix"):
                problems.append(f"{path}:{number}: {name} is not there (includes are written from the repository's root)")
            elif kind is not None and kind not in layer.outside and not generated:
                problems.append(f"{where}: no {kind} in this layer")
            elif generated and kind == "grpc" and "grpc" not in layer.outside:
                problems.append(f"{where}: no grpc in this layer")
            elif layer.pure and name in IMPURE:
                problems.append(f"{where}: this layer is deterministic")
    return problems, arrows


def read_links(path):
    """Lines of: target <tab> its folder <tab> sources, by ; <tab> links, by ;"""
    targets = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            name, folder, files, links = line.rstrip("\n").split("\t")
            targets[name] = (folder + "/", [f for f in files.split(";") if f], [l for l in links.split(";") if l])
    return targets


def check_links(targets, arrows):
    problems = []
    owners = {}
    for name, (folder, files, _) in targets.items():
        for file in files:
            owners.setdefault(file, set()).add(name)

    for name, (folder, _, links) in targets.items():
        layer = layer_of(folder)
        if layer is None:
            continue
        for link in links:
            kinds = [kind for pattern, kind in OUTSIDE_LINKS if re.match(pattern, link)]
            for kind in kinds:
                if kind not in layer.outside:
                    problems.append(f"target {name}: links {link}, and {layer.folder} must have no {kind}")
            if link in targets and not kinds:
                other = targets[link][0]
                # A single header may be allowed of a folder; the link then is, too.
                if not allows(layer, other) and not any(rule.startswith(other) for rule in layer.ours):
                    problems.append(f"target {name}: links {link}, and {layer.folder} must not use {other}")

    def reach(name):
        seen, todo = set(), [name]
        while todo:
            current = todo.pop()
            if current not in seen:
                seen.add(current)
                todo += [link for link in targets[current][2] if link in targets]
        return seen

    reached = {name: reach(name) for name in targets}
    for path, header in arrows:
        source = re.sub(r"\.h$", ".cc", header)
        folder = os.path.dirname(header) + "/"
        # The target that compiles the header's own source; else any target of the header's folder.
        providers = owners.get(source) or {name for name, target in targets.items() if target[0] == folder}
        for user in owners.get(path, ()):
            if providers and not providers & reached[user] and targets[user][0] != folder:
                problems.append(f"{path}: includes {header}, but its target {user} does not link {' or '.join(sorted(providers))}")
    return problems


def check(root, links=None):
    problems, arrows = check_includes(root)
    if links:
        problems += check_links(read_links(links), arrows)
    return problems


def self_test():
    good = {
        "raft/core/bytes.h": "#include <string>\n",
        "raft/core/replica.h": '#include "raft/core/bytes.h"\n#include "absl/status/status.h"\n',
        "raft/host/log_store.h": '#include "raft/core/replica.h"\n',
        "raft/host/host.h": '#include "raft/host/log_store.h"\n',
        "storage/store.h": '#include "raft/host/log_store.h"\n#include <unistd.h>\n#include "rocksdb/db.h"\n',
        "storage/store.cc": '#include "storage/store.h"\n',
        "broker/queue/queue.h": '#include "raft/core/bytes.h"\n',
        "broker/api/publish.h": '#include "trireme/v1/broker.grpc.pb.h"\n#include "broker/queue/queue.h"\n',
        "client/client.h": '#include "trireme/v1/broker.pb.h"\n#include <grpcpp/grpcpp.h>\n',
        "tests/storage/store_test.cc": '#include "storage/store.h"\n#include "rocksdb/env.h"\n#include <gtest/gtest.h>\n',
    }
    links = ("raft_base\traft/core\traft/core/checksum.cc\ttrireme_flags\n"
             "raft_host\traft/host\traft/host/host.cc\traft_base;absl::status\n"
             "storage\tstorage\tstorage/store.cc\traft_base;raft_host;RocksDB::rocksdb\n")
    planted = {
        "raft/core/a.h": ['#include "raft/host/host.h"', '#include "trireme/v1/message.pb.h"', '#include <thread>', '#include <sys/socket.h>'],
        "raft/host/a.cc": ['#include "storage/store.h"', '#include "trireme/peer/v1/peer.pb.h"', '#include <grpcpp/grpcpp.h>', '#include <mutex>'],
        "raft/grpc/a.cc": ['#include "storage/store.h"', '#include "broker/queue/queue.h"', '#include "rocksdb/db.h"'],
        "storage/a.cc": ['#include "raft/host/host.h"', '#include "broker/queue/queue.h"', '#include "trireme/v1/message.pb.h"'],
        "broker/queue/a.cc": ['#include "raft/core/replica.h"', '#include "storage/store.h"', '#include "trireme/v1/message.pb.h"', '#include <fstream>'],
        "broker/cluster/a.cc": ['#include "storage/store.h"', '#include "trireme/v1/admin.grpc.pb.h"'],
        "broker/api/a.cc": ['#include "storage/store.h"', '#include "rocksdb/db.h"', '#include "client/client.h"'],
        "client/a.cc": ['#include "broker/queue/queue.h"', '#include "raft/core/bytes.h"'],
        "tests/queue/a.cc": ['#include "rocksdb/db.h"', '#include "../storage/store.h"'],
        "stray/a.cc": ["#include <string>"],
    }
    planted_links = {
        "raft_host\traft/host\traft/host/host.cc\tstorage\n": "raft_host: links storage",
        "raft_base\traft/core\traft/core/checksum.cc\tproto_messages\n": "raft_base: links proto_messages",
        "storage\tstorage\tstorage/store.cc\tRocksDB::rocksdb\n": "storage/store.cc: includes raft/host/log_store.h",
        "queue_machine\tbroker/queue\tbroker/queue/queue.cc\tPkgConfig::GRPC\n": "queue_machine: links PkgConfig::GRPC",
    }

    def run(files, link_text):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            with open(os.path.join(root, "links"), "w", encoding="utf-8") as file:
                file.write(link_text)
            return check(root, os.path.join(root, "links"))

    failures = [f"a good tree was refused: {problem}" for problem in run(good, links)]
    tried = 0
    for path, lines in planted.items():
        for line in lines:
            tried += 1
            found = run(good | {path: line + "\n"}, links)
            if not any(path in problem for problem in found):
                failures.append(f"not caught: {line} in {path}; said {found}")
    # As source that includes what its target does not link, for the third of planted_links.
    files = good | {"storage/store.cc": '#include "raft/host/log_store.h"\n'}
    for line, wanted in planted_links.items():
        tried += 1
        name = line.split("\t")[0]
        kept = "".join(old + "\n" for old in links.splitlines() if old.split("\t")[0] != name)
        found = run(files, kept + line)
        if not any(wanted in problem for problem in found):
            failures.append(f"not caught: the link {line!r}; said {found}")
    print("\n".join(failures) if failures else f"each of {tried} planted faults was caught")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) not in (1, 3) or (len(arguments) == 3 and arguments[1] != "--links"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    problems = check(arguments[0], arguments[2] if len(arguments) == 3 else None)
    print("\n".join(problems) if problems else "every include and every link points down")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
