// One bidirectional stream of raw frames to one node.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>

#include "client/loop.h"

namespace trireme::client {

// Owned by whoever opened it and by its own pending operations: it lives until the last has completed. At most one read
// and one write are under way. For the loop's thread only.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  // Called on the loop's thread, never from within a call to the stream.
  class Listener {
   public:
    virtual ~Listener() = default;
    // The stream can take a frame: it has started, or the frame before is on its way.
    virtual void OnWritable() = 0;
    virtual void OnFrame(grpc::ByteBuffer& frame) = 0;
    // It is over; nothing follows.
    virtual void OnClosed(const grpc::Status& status) = 0;
  };

  // `method`: "/package.Service/Method". `listener` must stay until OnClosed or Abandon.
  static std::shared_ptr<Stream> Open(Loop& loop, const std::shared_ptr<grpc::Channel>& channel,
                                      const std::string& method, Listener* listener);

  bool writable() const { return started_ && !writing_ && !half_closed_ && !ended_; }
  // Only while writable(). With `more` it may stay behind until the next frame, which must follow for certain: a few
  // small ones then share one packet.
  void Write(const grpc::ByteBuffer& frame, bool more = false);
  // Only while writable(): says that no frame will follow; the other side then ends the stream.
  void HalfClose();
  // The listener is not called any more; the stream is cancelled.
  void Abandon();

  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

 private:
  class Op : public Loop::Operation {
   public:
    using Handler = void (Stream::*)(bool ok);
    Op(Stream& stream, Handler handler) : stream_(stream), handler_(handler) {}
    void* Start() {
      keep_ = stream_.shared_from_this();
      return stream_.loop_.Tag(this);
    }
    void Complete(bool ok) override {
      auto keep = std::move(keep_);
      (keep.get()->*handler_)(ok);
    }

   private:
    Stream& stream_;
    const Handler handler_;
    std::shared_ptr<Stream> keep_;
  };

  Stream(Loop& loop, Listener* listener) : loop_(loop), listener_(listener) {}

  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void Read();
  void Finish();

  Loop& loop_;
  Listener* listener_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::ByteBuffer incoming_;
  grpc::Status status_;
  bool started_ = false;
  bool writing_ = false;
  bool half_closed_ = false;
  bool ended_ = false;
  Op start_{*this, &Stream::OnStarted};
  Op read_{*this, &Stream::OnRead};
  Op write_{*this, &Stream::OnWritten};
  Op finish_{*this, &Stream::OnFinished};
};

}  // namespace trireme::client
