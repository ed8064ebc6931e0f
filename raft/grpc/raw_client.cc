#include "raft/grpc/raw_client.h"

#include <utility>

namespace trireme::raft {
namespace {

void Apply(const CallOptions& options, grpc::ClientContext* context) {
  for (const auto& [key, value] : options.metadata) context->AddMetadata(key, value);
  if (options.timeout.has_value()) context->set_deadline(std::chrono::system_clock::now() + *options.timeout);
  context->set_wait_for_ready(options.wait_for_ready);
}

grpc::Status Stopping() {
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "this node is stopping");
}

}  // namespace

std::shared_ptr<RawClientStream> RawClientStream::Start(CompletionQueueShard* shard,
                                                        std::shared_ptr<grpc::Channel> channel,
                                                        const std::string& method, const CallOptions& options,
                                                        std::unique_ptr<StreamHandler> handler) {
  std::shared_ptr<RawClientStream> stream(new RawClientStream(shard, std::move(channel)));
  stream->handler_ = std::move(handler);
  if (shard->stopping()) {
    stream->refuse_writes_ = true;
    shard->AtTurnEnd([stream] { stream->Close(Stopping()); });
    return stream;
  }
  Apply(options, &stream->context_);
  stream->call_ = stream->stub_.PrepareCall(&stream->context_, method, shard->queue());
  stream->call_->StartCall(stream->Begin(&stream->start_tag_));
  return stream;
}

std::optional<std::string> RawClientStream::Metadata(const std::string& key) const {
  const auto& metadata = context_.GetServerInitialMetadata();
  auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  return std::string(found->second.data(), found->second.size());
}

void RawClientStream::WritesDone() {
  if (std::exchange(half_close_, true)) return;
  refuse_writes_ = true;
  if (started_ && writes_idle()) WritesFlushed();
}

void RawClientStream::Cancel() {
  if (!closed()) context_.TryCancel();
}

void RawClientStream::Started(bool ok) {
  started_ = true;
  if (!ok) {
    Broken();
    call_->Finish(&status_, Begin(&finish_tag_));
    return;
  }
  // A server may send nothing before it has read something, so writes do not wait for its metadata.
  OpenWrites();
  call_->ReadInitialMetadata(Begin(&metadata_tag_));
  if (half_close_ && writes_idle()) WritesFlushed();
}

void RawClientStream::MetadataRead(bool ok) {
  // The status is asked for now, so that the end is noticed while reading is paused, too. It arrives behind the last
  // message.
  call_->Finish(&status_, Begin(&finish_tag_));
  if (!ok) {
    Broken();
    return;
  }
  if (handler_ != nullptr) handler_->OnOpen();
  OpenReads();
}

void RawClientStream::Finished(bool) {
  finished_ = true;
  Broken();
}

void RawClientStream::WritesFlushed() {
  if (!half_close_ || half_closed_ || finished_) return;
  half_closed_ = true;
  call_->WritesDone(Begin(&half_close_tag_));
}

void RawClientStream::Idle() {
  if (finished_) Close(status_);
}

std::shared_ptr<RawUnaryCall> RawUnaryCall::Start(CompletionQueueShard* shard, std::shared_ptr<grpc::Channel> channel,
                                                  const std::string& method, const CallOptions& options,
                                                  const grpc::ByteBuffer& request, Done done) {
  std::shared_ptr<RawUnaryCall> call(new RawUnaryCall(shard, std::move(channel), std::move(done)));
  if (shard->stopping()) {
    shard->AtTurnEnd([call] { call->done_(Stopping(), grpc::ByteBuffer()); });
    return call;
  }
  Apply(options, &call->context_);
  call->self_ = call;
  shard->Enter(call.get());
  call->call_ = call->stub_.PrepareUnaryCall(&call->context_, method, request, shard->queue());
  call->call_->StartCall();
  call->call_->Finish(&call->response_, &call->status_, static_cast<CompletionTag*>(call.get()));
  return call;
}

void RawUnaryCall::Complete(bool) {
  std::shared_ptr<RawUnaryCall> keep = std::move(self_);
  shard_->Leave(this);
  done_(status_, std::move(response_));
}

}  // namespace trireme::raft
