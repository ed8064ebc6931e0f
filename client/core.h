// What a client's parts share: its thread, its connections, what it knows of the cluster, and calls with retries.
#pragma once

#include <google/protobuf/message_lite.h>
#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/error.h"
#include "client/loop.h"
#include "client/route.h"
#include "client/sync.h"

namespace trireme::client {

// How a call may be tried.
struct CallOptions {
  // "/package.Service/Method".
  std::string method;
  // The first node to ask; empty = the next one in turn.
  std::string server;
  // Only `server`, never another.
  bool only_there = false;
  // Whether to try again after an outcome that is unknown.
  bool repeatable = true;
  // All tries together.
  std::chrono::milliseconds timeout{30'000};
  // One try, where that is repeatable: then another node is asked.
  std::chrono::milliseconds try_timeout{30'000};
};

// The answer's bytes; the node that gave it; whether an earlier try's outcome is unknown.
struct CallAnswer {
  absl::StatusOr<std::string> bytes;
  std::string server;
  bool tried_before = false;
};

// Thread-safe, except where noted.
class Core : public std::enable_shared_from_this<Core> {
 public:
  Core(std::vector<std::string> servers, std::shared_ptr<grpc::ChannelCredentials> credentials,
       std::chrono::milliseconds call_timeout);
  // Not on the loop's thread. Producers and consumers have been closed before.
  ~Core();

  Loop& loop() { return loop_; }
  Servers& servers() { return servers_; }
  std::chrono::milliseconds call_timeout() const { return call_timeout_; }
  uint64_t RandomNumber();
  std::string RandomBytes(size_t n);

  // The connection to a node, made when first asked for.
  std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address);

  // Calls `done` once, on the loop's thread.
  void Call(CallOptions options, std::string request, absl::AnyInvocable<void(CallAnswer)> done);

  template <typename Response>
  void Call(CallOptions options, const google::protobuf::MessageLite& request,
            absl::AnyInvocable<void(absl::StatusOr<Response>, const CallAnswer&)> done) {
    Call(std::move(options), request.SerializeAsString(), [done = std::move(done)](CallAnswer answer) mutable {
      if (!answer.bytes.ok()) return done(answer.bytes.status(), answer);
      Response response;
      if (!response.ParseFromString(*answer.bytes)) {
        return done(absl::InternalError("the answer of " + answer.server + " does not parse"), answer);
      }
      done(std::move(response), answer);
    });
  }

  // Cancels all calls and accepts no new ones. From any thread but the loop's; returns when it is done.
  void StopCalls();

 private:
  class UnaryCall;

  void LearnNodes();

  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  const std::chrono::milliseconds call_timeout_;
  // Self-synchronised.
  Servers servers_;

  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<grpc::Channel>> channels_ ABSL_GUARDED_BY(mutex_);
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);

  // The loop's own.
  std::set<std::shared_ptr<UnaryCall>> calls_;
  bool stopped_ = false;
  bool learned_ = false;

  // Last: its thread uses the rest.
  Loop loop_;
};

}  // namespace trireme::client
