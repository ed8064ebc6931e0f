// The inside of a Requester: the inbox, and who waits for what comes into it.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/consumer.h"
#include "client/core.h"
#include "client/producer.h"
#include "client/requester.h"

namespace trireme::client {

// On the loop's thread, except where noted.
class RequesterImpl : public std::enable_shared_from_this<RequesterImpl> {
 public:
  // What is to be destroyed on a thread of the caller's.
  struct Remains {
    std::unique_ptr<Producer> producer;
    std::vector<std::unique_ptr<Consumer>> inboxes;
  };

  // Any thread.
  RequesterImpl(Core& core, RequesterOptions options, std::unique_ptr<Producer> producer);
  void Start();
  void Request(v1::Message message, std::chrono::milliseconds timeout, Requester::Done done);
  // Answers what waits; nothing is asked any more. Not on the loop's thread.
  Remains Close();

 private:
  struct Waiting {
    Time deadline;
    Requester::Done done;
    // In the present inbox's name.
    bool sent = false;
    bool stored = false;
  };

  void Ask(v1::Message message, Time deadline, Requester::Done done);
  void Send(const std::string& id, v1::Message message);
  void OnReplies(Consumer& inbox, std::span<const Delivery> deliveries);
  void OnConfirm(const std::string& id, const Confirmation& confirmation);
  void OnInboxClosed(const absl::Status& status);
  void OpenInbox();
  void Tick();
  void Answer(const std::string& id, absl::StatusOr<v1::Message> reply);

  Core& core_;  // the requester holds it: it must not end on its own thread
  const RequesterOptions options_;
  const std::string prefix_;  // of correlation ids, so that another client's are not taken for ours
  std::unique_ptr<Producer> producer_;
  std::unique_ptr<Consumer> inbox_;
  // Empty until it is open.
  std::string inbox_name_;
  // Over; their threads' part of the end is the caller's to wait for.
  std::vector<std::unique_ptr<Consumer>> old_inboxes_;
  absl::flat_hash_map<std::string, Waiting> waiting_;       // by correlation id
  std::deque<std::pair<std::string, v1::Message>> unsent_;  // for want of an inbox
  uint64_t last_id_ = 0;
  Time next_inbox_;
  absl::Status inbox_error_;
  Backoff backoff_;
  bool closed_ = false;
};

}  // namespace trireme::client
