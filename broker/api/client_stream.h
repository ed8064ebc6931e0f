// What the streams of Broker have in common: a client's call on the shard that took it, and streams of its own to the
// nodes that lead what the client wants.
#pragma once

#include <google/protobuf/message_lite.h>

#include <memory>
#include <string>

#include "broker/api/shard_api.h"
#include "raft/grpc/raw_client.h"
#include "raft/grpc/raw_server.h"

namespace trireme::broker {

// On its shard's thread only. Lives as long as the call's handler, and while something that was posted to it runs.
class ClientStream : public std::enable_shared_from_this<ClientStream>, private Drainable {
 public:
  // The handler of a call that has just arrived, which owns the Stream made for it. Null, and the call refused, while
  // the node drains.
  template <typename Stream>
  static std::unique_ptr<raft::StreamHandler> Open(ShardApi* api, raft::RawServerStream* call) {
    if (Refuse(api, call)) return nullptr;
    return Handle(std::shared_ptr<Stream>(new Stream(api, call)));
  }
  ~ClientStream() override = default;

 protected:
  ClientStream(ShardApi* api, raft::RawServerStream* call);

  virtual void OnMessage(grpc::ByteBuffer message) = 0;
  virtual void OnReadEnd() = 0;
  virtual void OnWritten() {}
  // The call is over, and closed() by now. `in_order`: by our status, not by a cancellation or a broken connection.
  virtual void OnClosed(bool in_order) = 0;

  bool closed() const { return call_ == nullptr; }
  // The call; not to be used once closed().
  raft::RawServerStream& call() const { return *call_; }
  // By another node: what is not led here is not passed on again.
  bool forwarded() const { return forwarded_; }
  // False if the call is over or ending, or the client has left too much unread.
  bool Send(const google::protobuf::MessageLite& response);
  void End(const absl::Status& status);
  // The same method on another node, marked as forwarded. Ends when that node is lost.
  std::shared_ptr<raft::RawClientStream> OpenUpstream(const trireme::v1::Leader& leader,
                                                      std::unique_ptr<raft::StreamHandler> handler);

  // For what is posted to a stream, or asks it later.
  template <typename Stream>
  static std::weak_ptr<Stream> Weak(Stream* stream) {
    return std::static_pointer_cast<Stream>(stream->shared_from_this());
  }

  ShardApi* const api_;

 private:
  class Handler;
  static bool Refuse(ShardApi* api, raft::RawServerStream* call);
  static std::unique_ptr<raft::StreamHandler> Handle(std::shared_ptr<ClientStream> stream);
  void Close(bool in_order);

  std::shared_ptr<raft::RawServerStream> call_;
  const bool forwarded_;
};

}  // namespace trireme::broker
