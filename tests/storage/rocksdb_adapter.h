// Puts a file system of ours under RocksDB, and a clock that does not sleep: RocksDB waits a second after a failure.
#pragma once

#include <memory>

#include "tests/storage/fault_file_system.h"

namespace rocksdb {
class Env;
}

namespace trireme::storage {

// `fs` outlives it.
std::shared_ptr<rocksdb::Env> MakeRocksDbEnv(FaultFileSystem* fs);

}  // namespace trireme::storage
