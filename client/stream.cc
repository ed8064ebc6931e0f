#include "client/stream.h"

#include <grpcpp/channel.h>

#include <utility>

namespace trireme::client {

std::shared_ptr<Stream> Stream::Open(Loop& loop, const std::shared_ptr<grpc::Channel>& channel,
                                     const std::string& method, Listener* listener) {
  std::shared_ptr<Stream> stream(new Stream(loop, listener));
  grpc::GenericStub stub(channel);
  stream->call_ = stub.PrepareCall(&stream->context_, method, loop.completion_queue());
  stream->call_->StartCall(stream->start_.Start());
  return stream;
}

void Stream::Write(const grpc::ByteBuffer& frame, bool more) {
  writing_ = true;
  grpc::WriteOptions options;
  if (more) options.set_buffer_hint();
  call_->Write(frame, options, write_.Start());
}

void Stream::HalfClose() {
  half_closed_ = true;
  writing_ = true;
  call_->WritesDone(write_.Start());
}

void Stream::Abandon() {
  listener_ = nullptr;
  context_.TryCancel();
}

void Stream::OnStarted(bool ok) {
  if (!ok) return Finish();
  started_ = true;
  Read();
  if (listener_ != nullptr) listener_->OnWritable();
}

void Stream::Read() {
  call_->Read(&incoming_, read_.Start());
}

void Stream::OnRead(bool ok) {
  if (!ok) return Finish();
  if (listener_ != nullptr) listener_->OnFrame(incoming_);
  incoming_.Clear();
  Read();
}

void Stream::OnWritten(bool ok) {
  writing_ = false;
  // A failed write means that the stream is broken: the read under way fails, too, and ends it.
  if (ok && !half_closed_ && listener_ != nullptr) listener_->OnWritable();
}

void Stream::Finish() {
  ended_ = true;
  call_->Finish(&status_, finish_.Start());
}

void Stream::OnFinished(bool) {
  if (Listener* listener = std::exchange(listener_, nullptr); listener != nullptr) listener->OnClosed(status_);
}

}  // namespace trireme::client
