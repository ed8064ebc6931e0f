#include "raft/grpc/raw_server.h"

#include <utility>

#include "raft/core/check.h"

namespace trireme::raft {
namespace {

class UnaryHandler final : public StreamHandler {
 public:
  UnaryHandler(RawServerStream* call, const RawService::Unary* unary) : call_(call), unary_(unary) {}

  void OnMessage(grpc::ByteBuffer message) override {
    if (std::exchange(got_request_, true)) {
      call_->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "a unary call takes one message"));
      return;
    }
    (*unary_)(std::static_pointer_cast<RawServerStream>(call_->shared_from_this()), std::move(message));
  }
  void OnReadEnd() override {
    if (!got_request_) call_->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "the call carried no message"));
  }
  void OnClosed(const grpc::Status&) override {}

 private:
  RawServerStream* const call_;
  const RawService::Unary* const unary_;
  bool got_request_ = false;
};

}  // namespace

std::optional<std::string> RawServerStream::Metadata(const std::string& key) const {
  const auto& metadata = context_.client_metadata();
  auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  return std::string(found->second.data(), found->second.size());
}

void RawServerStream::SendInitialMetadata(const CallMetadata& metadata) {
  if (done_ || finish_started_) return;
  for (const auto& [key, value] : metadata) context_.AddInitialMetadata(key, value);
  call_.SendInitialMetadata(Begin(&metadata_tag_));
}

void RawServerStream::Finish(const grpc::Status& status) {
  if (finish_.has_value()) return;
  finish_ = status;
  refuse_writes_ = true;
  if (writes_idle()) FinishNow();
}

void RawServerStream::Reply(grpc::ByteBuffer message) {
  if (finish_.has_value()) return;
  last_message_ = std::move(message);
  Finish(grpc::Status::OK);
}

void RawServerStream::Cancel() {
  // Before the call is accepted there is nothing to cancel: the server's shutdown ends the wait.
  if (accepted_ && !done_) context_.TryCancel();
}

void RawServerStream::Listen() {
  context_.AsyncNotifyWhenDone(static_cast<CompletionTag*>(&done_tag_));
  service_->service_.RequestCall(&context_, &call_, shard_->queue(), shard_->server_queue(), Begin(&accept_tag_));
}

void RawServerStream::Accepted(bool ok) {
  if (!ok) {  // the server shuts down
    done_ = true;
    return;
  }
  accepted_ = true;
  Begin(&done_tag_);
  if (shard_->stopping()) {
    context_.TryCancel();
    return;
  }
  service_->ListenForOne(shard_);
  auto factory = service_->methods_.find(context_.method());
  if (factory == service_->methods_.end()) {
    Finish(grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "no such method: " + context_.method()));
    return;
  }
  handler_ = factory->second(this);
  if (finish_started_) return;
  TRIREME_CHECK(handler_ != nullptr || finish_.has_value()) << context_.method() << " was left without a handler";
  OpenWrites();
  OpenReads();
}

void RawServerStream::CallDone(bool) {
  done_ = true;
  Broken();
}

void RawServerStream::FinishNow() {
  if (done_ || finish_started_) return;
  finish_started_ = true;
  void* tag = Begin(&finish_tag_);
  if (last_message_.has_value()) {
    call_.WriteAndFinish(*last_message_, grpc::WriteOptions(), *finish_, tag);
    last_message_.reset();
  } else {
    call_.Finish(*finish_, tag);
  }
}

void RawServerStream::WritesFlushed() {
  if (finish_.has_value()) FinishNow();
}

void RawServerStream::Idle() {
  if (!done_) return;
  bool ours = accepted_ && finish_started_ && !context_.IsCancelled();
  Close(ours ? grpc::Status::OK : grpc::Status(grpc::StatusCode::CANCELLED, "the client or the connection went away"));
}

void RawService::Handle(std::string method, Factory factory) {
  methods_[std::move(method)] = std::move(factory);
}

void RawService::HandleUnary(std::string method, Unary unary) {
  auto shared = std::make_shared<const Unary>(std::move(unary));
  Handle(std::move(method), [shared](RawServerStream* call) -> std::unique_ptr<StreamHandler> {
    return std::make_unique<UnaryHandler>(call, shared.get());
  });
}

void RawService::Listen(CompletionQueueShard* shard) {
  TRIREME_CHECK(shard->server_queue() != nullptr) << "shard " << shard->id() << " has no server's queue";
  shard->Post([this, shard] {
    for (int i = 0; i < kListening && !shard->stopping(); ++i) ListenForOne(shard);
  });
}

void RawService::ListenForOne(CompletionQueueShard* shard) {
  std::shared_ptr<RawServerStream>(new RawServerStream(shard, this))->Listen();
}

}  // namespace trireme::raft
