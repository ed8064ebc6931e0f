#include "storage/membership_record.h"

#include "raft/core/check.h"

namespace trireme::storage {

using raft::MembershipAt;

raft::Bytes EncodeMembershipAt(const std::optional<MembershipAt>& membership) {
  if (!membership) return {};
  raft::Writer w;
  w.Fixed64(membership->index.value());
  w.Raw(raft::EncodeMembership(membership->membership).view());
  return raft::Bytes::Take(w.Take());
}

bool DecodeMembershipAt(std::string_view bytes, std::optional<MembershipAt>* membership) {
  membership->reset();
  if (bytes.empty()) return true;
  raft::Reader r(bytes);
  raft::Index index(r.Fixed64());
  std::optional<raft::Membership> members = r.ok() ? raft::DecodeMembership(r.rest()) : std::nullopt;
  if (!members) return false;
  *membership = MembershipAt{index, *std::move(members)};
  return true;
}

MembershipAt MembershipOf(const raft::Entry& entry) {
  std::optional<raft::Membership> members = raft::DecodeMembership(entry.data.view());
  TRIREME_CHECK(members.has_value()) << "entry " << entry.index << " is no membership";
  return {entry.index, *std::move(members)};
}

void CutMemberships(std::vector<MembershipAt>& memberships, raft::Index index) {
  while (!memberships.empty() && memberships.back().index >= index) memberships.pop_back();
}

}  // namespace trireme::storage
