#include "broker/api/exchange_send.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker/api/checks.h"
#include "broker/api/errors.h"
#include "broker/api/frames.h"
#include "broker/api/publish_links.h"
#include "broker/cluster/names.h"
#include "broker/queue/batch.h"
#include "broker/routing/exchange_publisher.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

absl::Status CannotRoute(const absl::Status& why) {
  return Error(absl::StatusCode::kUnavailable, {.reason = "STALE_ROUTING"},
               absl::StrCat("this node does not reach the cluster's metadata, so that it cannot route: ",
                            std::string(why.message()), "; send it to another node"));
}

// One batch's publisher, as long as it is under way.
struct UnderWay {
  QueueCallPtr call;
  std::shared_ptr<ExchangePublisher> publisher;

  template <typename Response>
  void End(const std::shared_ptr<UnderWay>& self, const Response& response) {
    Respond(call, response);
    // Not from within its own call.
    call->api->shard()->AtTurnEnd([self] { self->publisher.reset(); });
  }
};

void Route(const QueueCallPtr& call, const SendFrame& send) {
  ShardApi* api = call->api;
  const ExchangeRouter& router = api->exchanges().router();
  if (!router.Has(*send.exchange)) return Respond(call, NoSuchExchange(*send.exchange));
  absl::StatusOr<std::string> producer = ProducerAtExchange(router.IdOf(*send.exchange), send.producer);
  if (!producer.ok()) return Respond(call, producer.status());
  ExchangePublisher::Options options{.exchange = *send.exchange, .mandatory = send.mandatory};
  options.limits.max_message_bytes = api->node()->config().max_message_bytes;
  if (absl::Status good = queue::CheckBatch(send.batch.view(), options.limits).status(); !good.ok()) {
    return Respond(call, Error(good.code(), {.reason = "REFUSED"}, good.message()));
  }
  options.feed.sequences = !producer->empty();
  options.feed.join = true;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(call->deadline - api->shard()->Now());
  // So that what is known by then is still told.
  options.feed.patience = std::clamp(left - left / 8, std::chrono::milliseconds{1}, options.feed.patience);
  auto under_way = std::make_shared<UnderWay>();
  under_way->call = call;
  under_way->publisher = std::make_shared<ExchangePublisher>(
      api->shard(), &api->exchanges(), std::make_shared<PublishLinks>(api, *producer), std::move(options),
      [under_way](const absl::Status& failed) { under_way->End(under_way, CannotRoute(failed)); });
  under_way->publisher->Publish(producer->empty() ? 0 : send.first_sequence, send.batch,
                                [under_way, first = send.first_sequence](const std::vector<Verdict>& verdicts) {
                                  v1::SendResponse response;
                                  for (const Verdict& verdict : verdicts)
                                    ToProto(verdict, first, response.add_confirms());
                                  under_way->End(under_way, response);
                                });
}

}  // namespace

void SendToExchange(const QueueCallPtr& call) {
  // The parse was good before; the batch shares the request's memory.
  SendFrame send = *ParseSendRequest(*raft::FromBuffer(call->request));
  Exchanges& exchanges = call->api->exchanges();
  const raft::Index here = call->api->node()->cluster().view(call->api->shard()->id()).index();
  // Safety rule 21.
  if (exchanges.router().Has(*send.exchange) && here.value() >= send.metadata_index) return Route(call, send);
  exchanges.Renew([call, send = std::move(send)](const absl::Status& renewed) {
    if (!renewed.ok()) return Respond(call, CannotRoute(renewed));
    Route(call, send);
  });
}

}  // namespace trireme::broker
