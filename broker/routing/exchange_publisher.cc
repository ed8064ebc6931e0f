#include "broker/routing/exchange_publisher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/cluster/names.h"
#include "broker/queue/producer_window.h"

namespace trireme::broker {
namespace {

std::vector<Verdict> Refused(uint32_t count, std::string reason) {
  std::vector<Verdict> verdicts(1);
  verdicts[0].messages = {0, count};
  verdicts[0].kind = Verdict::Kind::kRefused;
  verdicts[0].reason = std::move(reason);
  return verdicts;
}

uint32_t Messages(const raft::Bytes& batch) {
  uint32_t count = 0;
  for (queue::BatchWalker walker(batch.view()); walker.Next();) ++count;
  return std::max(1u, count);
}

}  // namespace

ExchangePublisher::ExchangePublisher(raft::Shard* shard, Exchanges* exchanges, std::shared_ptr<QueueLinks> links,
                                     Options options, Failed failed)
    : shard_(shard),
      exchanges_(exchanges),
      links_(std::move(links)),
      options_(std::move(options)),
      failed_(std::move(failed)) {}

absl::Status ExchangePublisher::Check(uint64_t first_sequence, const raft::Bytes& batch, uint32_t* count) const {
  *count = Messages(batch);
  absl::StatusOr<std::vector<uint32_t>> checked = queue::CheckBatch(batch.view(), options_.limits);
  if (!checked.ok()) return checked.status();
  *count = static_cast<uint32_t>(checked->size());
  if (!options_.feed.sequences) return absl::OkStatus();
  if (first_sequence == 0) return absl::InvalidArgumentError("first_sequence is 0; sequences start at 1");
  if (first_sequence > queue::ProducerWindow::kMaxSequence - *count) {
    return absl::InvalidArgumentError(absl::StrCat("first_sequence is ", first_sequence, "; a batch of ", *count,
                                                   " would run over the end of the sequences"));
  }
  const uint64_t oldest = unanswered_.empty() ? first_sequence : std::min(first_sequence, *unanswered_.begin());
  if (first_sequence + *count - oldest > kMaxAhead) {
    return absl::ResourceExhaustedError(
        absl::StrCat("sequence ", first_sequence + *count - 1, " is ", first_sequence + *count - oldest,
                     " messages from ", oldest, ", the oldest that is unconfirmed; at an exchange the limit is ",
                     kMaxAhead, ": wait for confirms, and send batches of fewer messages"));
  }
  return absl::OkStatus();
}

void ExchangePublisher::Publish(uint64_t first_sequence, raft::Bytes batch, Done done) {
  uint32_t count = 0;
  if (absl::Status bad = Check(first_sequence, batch, &count); !bad.ok()) {
    return done(Refused(count, std::string(bad.message())));
  }
  if (options_.feed.sequences) {
    unanswered_.insert(first_sequence);
    done = [weak = weak_from_this(), first_sequence, done = std::move(done)](std::vector<Verdict> verdicts) mutable {
      if (auto self = weak.lock()) self->unanswered_.extract(first_sequence);
      done(std::move(verdicts));
    };
  }
  waiting_.push_back({first_sequence, count, std::move(batch), exchanges_->Now(), std::move(done)});
  Pump();
}

void ExchangePublisher::Pump() {
  auto self = shared_from_this();  // an answer may let go of it
  while (!waiting_.empty() && !renewing_ && failed_ != nullptr) {
    // Safety rule 21: not by definitions that are too old.
    if (!exchanges_->Current()) return Renew();
    Waiting batch = std::move(waiting_.front());
    waiting_.pop_front();
    if (!Route(batch)) {
      waiting_.push_front(std::move(batch));
      return Renew();
    }
  }
}

bool ExchangePublisher::Route(Waiting& batch) {
  // Safety rule 21: what is missing may be there by now.
  const bool sure = exchanges_->RenewedSince(batch.came);
  ExchangeRouter& router = exchanges_->router();
  if (!router.Has(options_.exchange)) {
    if (sure) batch.done(Refused(batch.count, std::string(NoSuchExchange(options_.exchange).message())));
    return sure;
  }
  Split split = SplitBatch(batch.batch, /*gather=*/!options_.feed.sequences,
                           [&](std::string_view message) { return router.Route(options_.exchange, message); });
  const auto unroutable = std::count(split.targets.begin(), split.targets.end(), 0u);
  if (unroutable > 0) {
    if (!sure) return false;
    exchanges_->CountUnroutable(static_cast<uint64_t>(unroutable));
  }
  Spread(batch, std::move(split));
  return true;
}

void ExchangePublisher::Spread(Waiting& batch, Split split) {
  auto spread = std::make_shared<SpreadBatch>(
      SpreadBatch{.distribution = Distribution(std::move(split.targets), options_.mandatory),
                  .first_sequence = batch.first_sequence,
                  .done = [done = std::move(batch.done)](const Distribution& all) mutable { done(all.Verdicts()); }});
  if (spread->distribution.done()) return std::exchange(spread->done, nullptr)(spread->distribution);
  // Handles are good until the next change, which does not come within this turn.
  for (Share& share : split.shares) {
    QueueFeed& feed = FeedOf(exchanges_->router().queue(share.queue));
    for (Piece& piece : share.pieces) feed.Put(std::move(piece), spread);
  }
}

void ExchangePublisher::Renew() {
  renewing_ = true;
  exchanges_->Renew([weak = weak_from_this()](absl::Status status) {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->renewing_ = false;
    if (status.ok()) return self->Pump();
    if (self->failed_ == nullptr) return;
    std::exchange(self->failed_, nullptr)(absl::UnavailableError(absl::StrCat(
        "this node does not reach the cluster's metadata, so that it cannot route: ", std::string(status.message()),
        "; publish through another node")));
  });
}

QueueFeed& ExchangePublisher::FeedOf(const QueuePtr& queue) {
  if (auto found = feeds_.find(queue->group); found != feeds_.end()) return *found->second;
  if (feeds_.size() >= prune_at_) {
    absl::erase_if(feeds_, [](const auto& feed) { return feed.second->over(); });
    prune_at_ = std::max<size_t>(64, 2 * feeds_.size());
  }
  return *feeds_.try_emplace(queue->group, std::make_shared<QueueFeed>(shard_, links_, queue, options_.feed))
              .first->second;
}

}  // namespace trireme::broker
