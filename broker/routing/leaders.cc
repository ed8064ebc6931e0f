#include "broker/routing/leaders.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace trireme::broker {
namespace {

namespace v1 = trireme::v1;
using std::chrono::milliseconds;

// Between looks at this node's own replica while an election is under way.
constexpr milliseconds kLook{5};
// Of one question to another node, which waits out an election as well; and the pause when all were asked in vain.
constexpr milliseconds kAsk{1000};
constexpr milliseconds kPause{100};

constexpr char kCutOff[] = "trireme/cut-off";

absl::Status CutOff(const std::string& queue) {
  absl::Status status = absl::UnavailableError(
      absl::StrCat("this node is cut off from most of queue ", queue, "'s nodes; ask another one"));
  status.SetPayload(kCutOff, absl::Cord());
  return status;
}

}  // namespace

bool SaysCutOff(const absl::Status& status) {
  return status.GetPayload(kCutOff).has_value();
}

Leaders::Leaders(raft::NodeId self, raft::Shard* shard, const MetadataView* view,
                 std::function<raft::Group*(raft::GroupId)> find, LeaderAsker* asker)
    : self_(self), shard_(shard), view_(view), find_(std::move(find)), asker_(asker) {}

Leaders::~Leaders() {
  *alive_ = false;
}

v1::Leader Leaders::Known(const QueueInfo& queue) const {
  if (raft::Group* group = find_(queue.group)) {
    v1::Leader leader;
    leader.set_group_id(queue.group.value());
    leader.set_term(group->term().value());
    raft::NodeId node = group->leader_node();
    std::string_view address = view_->AddressOf(node);
    // A replica knows its leader's node before this shard knows its address; then it is not known yet.
    if (node.value() != 0 && !address.empty()) {
      leader.set_node_id(node.value());
      leader.set_address(std::string(address));
    }
    return leader;
  }
  auto kept = kept_.find(queue.group);
  if (kept != kept_.end()) return kept->second;
  v1::Leader unknown;
  unknown.set_group_id(queue.group.value());
  return unknown;
}

void Leaders::Find(QueuePtr queue, raft::MonotonicTime deadline, Done done) {
  v1::Leader known = Known(*queue);
  if (known.node_id() != 0) return done(std::move(known));
  raft::GroupId group = queue->group;
  auto [it, first] = searches_.try_emplace(group);
  if (first) {
    it->second = std::make_unique<Search>();
    it->second->queue = std::move(queue);
    // Nodes are not all asked by everyone in the same order.
    it->second->next = self_.value();
  }
  it->second->waiting.emplace_back(deadline, std::move(done));
  if (first) Look(group);
}

void Leaders::Look(raft::GroupId group) {
  auto found = searches_.find(group);
  if (found == searches_.end()) return;
  Search& search = *found->second;
  v1::Leader known = Known(*search.queue);
  if (known.node_id() != 0) return End(group, known);
  if (raft::Group* replica = find_(group)) {
    replica->WantLeader();
    // Whoever asks may still reach the others, which know or will.
    if (replica->cut_off()) {
      return End(group, CutOff(search.queue->name));
    }
  }

  // Those whose time is over hear so.
  std::vector<Done> late;
  for (auto& [deadline, done] : search.waiting) {
    if (deadline <= shard_->Now()) late.push_back(std::move(done));
  }
  std::erase_if(search.waiting, [this](const auto& waiting) { return waiting.first <= shard_->Now(); });
  absl::Status status =
      absl::UnavailableError(absl::StrCat("queue ", search.queue->name, " has no leader now: ", search.last));
  bool over = search.waiting.empty();
  bool local = find_(group) != nullptr;
  if (over) searches_.erase(found);
  for (Done& done : late) done(status);
  if (over) return;
  // A callback may have searched on; the search is looked up again.
  found = searches_.find(group);
  if (found == searches_.end()) return;
  if (local) {
    found->second->last = "an election is under way";
    return LookLater(group, kLook);
  }
  Ask(group, *found->second);
}

void Leaders::LookLater(raft::GroupId group, milliseconds delay) {
  shard_->After(delay, [this, alive = alive_, group] {
    if (*alive) Look(group);
  });
}

void Leaders::Ask(raft::GroupId group, Search& search) {
  const std::vector<raft::Member>& replicas = search.queue->replicas;
  std::string_view address;
  for (size_t i = 0; i < replicas.size() && address.empty(); ++i) {
    raft::NodeId node = replicas[search.next++ % replicas.size()].node;
    if (node != self_) address = view_->AddressOf(node);
  }
  // This node's own replica has not started yet, or the addresses are not here yet.
  if (address.empty()) return LookLater(group, kLook);

  raft::MonotonicTime last = shard_->Now();
  for (const auto& [deadline, done] : search.waiting) last = std::max(last, deadline);
  milliseconds timeout =
      std::min(kAsk, std::chrono::duration_cast<milliseconds>(last - shard_->Now()) + milliseconds(1));
  asker_->Resolve(std::string(address), search.queue->name, timeout,
                  [this, alive = alive_, group, from = std::string(address)](absl::StatusOr<v1::Leader> leader) {
                    if (!*alive) return;
                    auto found = searches_.find(group);
                    if (found == searches_.end()) return;
                    Search& asked = *found->second;
                    if (absl::IsNotFound(leader.status()) ||
                        (leader.ok() && leader->node_id() != 0 && leader->group_id() != group.value())) {
                      // Deleted; perhaps there is another queue of that name by now.
                      return End(group, absl::NotFoundError(absl::StrCat("queue ", asked.queue->name, " was deleted")));
                    }
                    if (leader.ok() && leader->node_id() != 0) {
                      kept_[group] = *leader;
                      return End(group, *leader);
                    }
                    asked.last = absl::StrCat(from, ": ", leader.ok() ? "it knows of none" : leader.status().message());
                    bool all = asked.next % asked.queue->replicas.size() == 0;
                    LookLater(group, all ? kPause : milliseconds(1));
                  });
}

void Leaders::End(raft::GroupId group, const absl::StatusOr<v1::Leader>& result) {
  auto search = searches_.extract(group);
  for (auto& [deadline, done] : search.mapped()->waiting) done(result);
}

void Leaders::Wrong(raft::GroupId group, raft::NodeId node) {
  auto kept = kept_.find(group);
  if (kept != kept_.end() && kept->second.node_id() == node.value()) kept_.erase(kept);
}

void Leaders::Forget(raft::GroupId group) {
  kept_.erase(group);
}

}  // namespace trireme::broker
