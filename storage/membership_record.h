// A membership and where it came into force, as records and rows hold it.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "raft/core/coding.h"
#include "raft/core/entry.h"
#include "raft/core/membership.h"

namespace trireme::storage {

// Nothing is empty: the members are those that the group was born with.
raft::Bytes EncodeMembershipAt(const std::optional<raft::MembershipAt>& membership);
// False for what is none of these.
bool DecodeMembershipAt(std::string_view bytes, std::optional<raft::MembershipAt>* membership);

// What an entry of type kConfig brings into force. Consensus lets none in that does not decode.
raft::MembershipAt MembershipOf(const raft::Entry& entry);

// The part of `memberships`, ascending, before `index`, in place.
void CutMemberships(std::vector<raft::MembershipAt>& memberships, raft::Index index);

}  // namespace trireme::storage
