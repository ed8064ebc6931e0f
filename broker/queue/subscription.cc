#include "broker/queue/subscription.h"

namespace trireme::queue {

void Subscription::Encode(raft::Writer& out) const {
  out.Varint(next.packed());
  out.Varint(waiting);
  out.Varint(waiting_from);
  out.Varint(acknowledged);
  out.Varint(rejected);
  out.Varint(purged);
  out.Varint(last_session_number);
  out.Varint(sessions.size());
  for (const auto& [id, s] : sessions) {
    out.Counted(id);
    out.Varint(s.number);
    out.Varint(s.epoch);
    out.Counted(s.consumer);
    out.Varint(s.timeout_ms);
  }
  out.Varint(in_flight.size());
  uint64_t last = 0;
  for (const auto& [first, run] : in_flight) {
    out.Varint(first.packed() - last);
    out.Varint(run.count);
    out.Varint(run.deliveries);
    out.Varint(run.checkout_index);
    out.Varint(run.holder);
    out.Signed(run.deadline_ms);
    last = first.packed();
  }
  out.Varint(returned.size());
  last = 0;
  for (const auto& [first, run] : returned) {
    out.Varint(first.packed() - last);
    out.Varint(run.count);
    out.Varint(run.deliveries);
    last = first.packed();
  }
}

bool Subscription::Decode(raft::Reader& in) {
  next = Position(in.Varint());
  waiting = in.Varint();
  waiting_from = in.Varint();
  acknowledged = in.Varint();
  rejected = in.Varint();
  purged = in.Varint();
  last_session_number = in.Varint();
  const size_t session_count = in.Count(5);
  for (size_t i = 0; i < session_count && in.ok(); ++i) {
    SessionId id(in.Counted());
    Session s;
    s.number = in.Varint();
    s.epoch = in.Varint();
    s.consumer = in.Counted();
    s.timeout_ms = static_cast<uint32_t>(in.Varint());
    sessions.emplace(std::move(id), std::move(s));
  }
  uint64_t last = 0;
  const size_t in_flight_count = in.Count(6);
  for (size_t i = 0; i < in_flight_count && in.ok(); ++i) {
    InFlight run;
    last += in.Varint();
    run.count = static_cast<uint32_t>(in.Varint());
    run.deliveries = static_cast<uint32_t>(in.Varint());
    run.checkout_index = in.Varint();
    run.holder = in.Varint();
    run.deadline_ms = in.Signed();
    if (run.holder != 0) held[run.holder] += run.count;
    in_flight_messages += run.count;
    in_flight.emplace(Position(last), run);
  }
  last = 0;
  const size_t returned_count = in.Count(3);
  for (size_t i = 0; i < returned_count && in.ok(); ++i) {
    Returned run;
    last += in.Varint();
    run.count = static_cast<uint32_t>(in.Varint());
    run.deliveries = static_cast<uint32_t>(in.Varint());
    returned_messages += run.count;
    returned.emplace(Position(last), run);
  }
  return in.ok() && (waiting == 0 || waiting_from > 0);
}

}  // namespace trireme::queue
