// A stream of raw bytes on a shard's completion queue: a bounded queue of writes, reads that can be paused, a lifetime
// that outlasts its last tag. raw_server.h and raw_client.h have its two ends.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "raft/grpc/completion_queue_shard.h"

namespace trireme::raft {

// Keys in lower case; those that end in "-bin" may hold any bytes.
using CallMetadata = std::vector<std::pair<std::string, std::string>>;

// What happens on a stream, told on the stream's shard. A stream owns its handler and destroys it after OnClosed.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;

  // Client streams: the server's initial metadata has arrived. (It may be empty, and the call have failed.)
  virtual void OnOpen() {}
  virtual void OnMessage(grpc::ByteBuffer message) = 0;
  // The other end will send no more. A server's handler must sooner or later call Finish.
  virtual void OnReadEnd() {}
  // A write has left: queued_bytes() is lower than it was.
  virtual void OnWritten() {}
  // Nothing more will happen. Server streams: OK if we ended it, with whatever status, and CANCELLED if the client or
  // the connection went away first. Client streams: the call's status.
  virtual void OnClosed(const grpc::Status& status) = 0;
};

// What both ends have in common. On its shard's thread only, but a shared_ptr to it may be held, and let go of,
// anywhere (to Post back with). After OnClosed every call is harmless and does nothing.
class RawStream : public std::enable_shared_from_this<RawStream>, protected ShardResident {
 public:
  static constexpr size_t kDefaultQueueBytes = size_t{16} << 20;

  virtual ~RawStream() = default;
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;

  CompletionQueueShard* shard() const { return shard_; }
  // The other end's address, for logs.
  virtual std::string peer() const = 0;

  // Queues a message. False, and nothing is queued, if the stream is ending, or if more than its limit would be waiting
  // (a message of any size is taken when nothing is waiting).
  bool Write(grpc::ByteBuffer message);
  // Bytes that were given to Write and have not left.
  size_t queued_bytes() const { return queued_bytes_; }
  void set_queue_limit(size_t bytes) { queue_limit_ = bytes; }

  // Reading starts by itself. Once paused, a read that is already under way may still deliver its one message; then the
  // other end is held back by HTTP/2's flow control.
  void PauseReading() { paused_ = true; }
  void ResumeReading();
  bool reading_paused() const { return paused_; }

  // Ends the call at once. OnClosed follows.
  virtual void Cancel() = 0;
  bool closed() const { return closed_; }

 protected:
  // One operation's tag. At most one operation at a time uses it.
  class Tag final : public CompletionTag {
   public:
    using Method = void (RawStream::*)(bool ok);
    template <typename Stream>
    Tag(Stream* stream, void (Stream::*method)(bool ok)) : stream_(stream), method_(static_cast<Method>(method)) {}
    void Complete(bool ok) override;

   private:
    RawStream* const stream_;
    const Method method_;
  };

  explicit RawStream(CompletionQueueShard* shard) : shard_(shard) {}

  // Counts one more operation under way; hand the result to gRPC. Keeps this alive.
  void* Begin(Tag* tag);
  void OpenReads();
  void OpenWrites();
  // Neither reads nor writes make sense any more.
  void Broken();
  // Everything is over: tells the handler.
  void Close(const grpc::Status& status);

  virtual void DoRead(grpc::ByteBuffer* into, void* tag) = 0;
  virtual void DoWrite(const grpc::ByteBuffer& message, void* tag) = 0;
  virtual void WriteFailed() = 0;
  // Nothing is queued or being written.
  virtual void WritesFlushed() = 0;
  // A tag came back, and no other is out.
  virtual void Idle() = 0;
  void EndSoon() override { Cancel(); }

  bool writes_idle() const { return !writing_ && queue_.empty(); }

  CompletionQueueShard* const shard_;
  std::unique_ptr<StreamHandler> handler_;
  bool refuse_writes_ = false;

 private:
  void StartReading();
  void WriteNext();
  void ReadDone(bool ok);
  void WriteDone(bool ok);

  std::deque<grpc::ByteBuffer> queue_;
  size_t queued_bytes_ = 0;
  size_t writing_bytes_ = 0;
  size_t queue_limit_ = kDefaultQueueBytes;
  bool broken_ = false;
  bool may_read_ = false;
  bool may_write_ = false;
  bool writing_ = false;
  bool reading_ = false;
  bool read_ended_ = false;
  bool paused_ = false;
  bool closed_ = false;

  int outstanding_ = 0;
  std::shared_ptr<RawStream> self_;  // while a tag is out, or the handler has not been told of the end
  grpc::ByteBuffer incoming_;
  Tag read_tag_{this, &RawStream::ReadDone};
  Tag write_tag_{this, &RawStream::WriteDone};
};

}  // namespace trireme::raft
