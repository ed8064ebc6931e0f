// Calls that we make, of raw bytes, on a shard's completion queue.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "raft/grpc/raw_stream.h"

namespace trireme::raft {

struct CallOptions {
  CallMetadata metadata;
  std::optional<std::chrono::milliseconds> timeout;
  // Waits for a connection rather than fail while there is none.
  bool wait_for_ready = false;
};

// A bidirectional stream (or a one-way one) to a server.
class RawClientStream final : public RawStream {
 public:
  // On the shard's thread. The handler is not called before this returns. Writes may be queued at once.
  static std::shared_ptr<RawClientStream> Start(CompletionQueueShard* shard, std::shared_ptr<grpc::Channel> channel,
                                                const std::string& method, const CallOptions& options,
                                                std::unique_ptr<StreamHandler> handler);

  // From OnOpen on: what the server sent; the first value of that key.
  std::optional<std::string> Metadata(const std::string& key) const;
  std::string peer() const override { return context_.peer(); }
  // No more messages from us, once what is queued has left.
  void WritesDone();
  void Cancel() override;

 private:
  RawClientStream(CompletionQueueShard* shard, std::shared_ptr<grpc::Channel> channel)
      : RawStream(shard), stub_(std::move(channel)) {}

  void Started(bool ok);
  void MetadataRead(bool ok);
  void HalfClosed(bool) {}
  void Finished(bool ok);

  void DoRead(grpc::ByteBuffer* into, void* tag) override { call_->Read(into, tag); }
  void DoWrite(const grpc::ByteBuffer& message, void* tag) override { call_->Write(message, tag); }
  void WriteFailed() override {}  // the status follows, and says why
  void WritesFlushed() override;
  void Idle() override;

  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::Status status_;
  bool started_ = false;
  bool finished_ = false;
  bool half_close_ = false;
  bool half_closed_ = false;
  Tag start_tag_{this, &RawClientStream::Started};
  Tag metadata_tag_{this, &RawClientStream::MetadataRead};
  Tag half_close_tag_{this, &RawClientStream::HalfClosed};
  Tag finish_tag_{this, &RawClientStream::Finished};
};

// One request, one answer.
class RawUnaryCall final : private CompletionTag, private ShardResident {
 public:
  using Done = absl::AnyInvocable<void(const grpc::Status& status, grpc::ByteBuffer response)>;

  // On the shard's thread; `done` is called once, later, there. Hold the result only to be able to cancel.
  static std::shared_ptr<RawUnaryCall> Start(CompletionQueueShard* shard, std::shared_ptr<grpc::Channel> channel,
                                             const std::string& method, const CallOptions& options,
                                             const grpc::ByteBuffer& request, Done done);
  // On the shard's thread. `done` is still called.
  void Cancel() { context_.TryCancel(); }

 private:
  RawUnaryCall(CompletionQueueShard* shard, std::shared_ptr<grpc::Channel> channel, Done done)
      : shard_(shard), stub_(std::move(channel)), done_(std::move(done)) {}
  void Complete(bool ok) override;
  void EndSoon() override { context_.TryCancel(); }

  CompletionQueueShard* const shard_;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> call_;
  grpc::Status status_;
  grpc::ByteBuffer response_;
  Done done_;
  std::shared_ptr<RawUnaryCall> self_;  // until done
};

}  // namespace trireme::raft
