// From the members that a group has to those that it should have, one step at a time.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "broker/cluster/metadata.h"
#include "broker/cluster/metadata_view.h"
#include "raft/host/host.h"

namespace trireme::broker {

// The next members to propose; nothing while a change is under way, or when nothing is to be changed. Who is to come
// comes as a learner; once all of those have caught up (which consensus checks), they vote and those who are to go are
// gone, in one joint change. A replica whose node is to have another one goes first: a node hosts one at a time, and
// with or without it the others need the same majority of themselves.
std::optional<std::vector<raft::Member>> PlanMembers(const raft::Membership& now, bool committed,
                                                     const std::vector<raft::Member>& wanted);

// What the metadata is told of members that are committed. Whoever is to come and does not vote yet is left out: with
// it the members would look like those that there should be, and it would stay a learner.
std::vector<raft::Member> MembersToReport(const raft::Membership& now, const std::vector<raft::Member>& wanted);

// Whether all members are among those that this view of the metadata lists. A leader whose view is older than its group's
// last change would else bring replicas back that have gone since (Safety rule 11): it waits for the news.
bool KnowsAll(const QueueInfo& queue, const raft::Membership& now);

// Takes the next step for every queue that is led here and whose members are not yet those that they should be, at most
// so many at a time. Call it now and then, on the view's shard. `report` is told the members that are committed where
// the metadata waits for it, again and again until it knows.
using FindGroup = std::function<raft::Group*(raft::GroupId)>;
using ReportMembers = std::function<void(raft::GroupId, const std::vector<raft::Member>&)>;
void KeepMembers(const MetadataView& view, const FindGroup& find, const ReportMembers& report);

}  // namespace trireme::broker
