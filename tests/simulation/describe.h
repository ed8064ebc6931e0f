// The core's values as text, for scenarios and traces.
#pragma once

#include <string>

#include "raft/core/entry.h"
#include "raft/core/membership.h"
#include "raft/core/message.h"
#include "raft/core/replica.h"

namespace trireme::simulation {

const char* Name(raft::MessageType type);
const char* Name(raft::Role role);
// "1 2 3=learner": ids in order of preference, and how they stand if they are not plain voters.
std::string Describe(const raft::Membership& membership);
// "5:2 text": index 5, term 2; "5:2 noop", "5:2 members 1 2".
std::string Describe(const raft::Entry& entry);
// "1->2 Append term=1 after=3:1 commit=2 [4:1 a] [5:1 b]"; fields that are zero are left out where that is no loss.
std::string Describe(const raft::Message& message);
std::string Describe(const raft::EntryRead& read);
// "5:2 members 1 2": index 5, term 2.
std::string Describe(const raft::SnapshotMeta& snapshot);

}  // namespace trireme::simulation
