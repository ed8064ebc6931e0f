#include "raft/grpc/raw_stream.h"

#include "raft/core/check.h"

namespace trireme::raft {

void RawStream::Tag::Complete(bool ok) {
  RawStream* stream = stream_;
  // Whatever the method lets go of, the stream outlasts it.
  std::shared_ptr<RawStream> keep = stream->self_;
  --stream->outstanding_;
  (stream->*method_)(ok);
  if (stream->outstanding_ > 0) return;
  stream->Idle();
  if (stream->outstanding_ == 0 && stream->closed_ && stream->self_ != nullptr) {
    stream->shard_->Leave(stream);
    stream->self_.reset();
  }
}

void* RawStream::Begin(Tag* tag) {
  if (self_ == nullptr) {
    TRIREME_CHECK(!shard_->stopping()) << "an operation was started on a shard that stops";
    self_ = shared_from_this();
    shard_->Enter(this);
  }
  ++outstanding_;
  return static_cast<CompletionTag*>(tag);
}

void RawStream::OpenReads() {
  may_read_ = !broken_;
  StartReading();
}

void RawStream::OpenWrites() {
  may_write_ = !broken_;
  WriteNext();
}

void RawStream::Broken() {
  broken_ = true;
  refuse_writes_ = true;
  may_read_ = may_write_ = false;
  queue_.clear();
  queued_bytes_ = writing_bytes_;
}

void RawStream::Close(const grpc::Status& status) {
  if (closed_) return;
  Broken();
  closed_ = true;
  if (auto handler = std::move(handler_)) handler->OnClosed(status);
}

bool RawStream::Write(grpc::ByteBuffer message) {
  size_t bytes = message.Length();
  if (refuse_writes_ || (queued_bytes_ > 0 && queued_bytes_ + bytes > queue_limit_)) return false;
  queued_bytes_ += bytes;
  queue_.push_back(std::move(message));
  WriteNext();
  return true;
}

void RawStream::ResumeReading() {
  paused_ = false;
  StartReading();
}

void RawStream::StartReading() {
  if (!may_read_ || reading_ || read_ended_ || paused_) return;
  reading_ = true;
  DoRead(&incoming_, Begin(&read_tag_));
}

void RawStream::WriteNext() {
  if (!may_write_ || writing_ || queue_.empty()) return;
  writing_ = true;
  grpc::ByteBuffer message = std::move(queue_.front());
  queue_.pop_front();
  writing_bytes_ = message.Length();
  DoWrite(message, Begin(&write_tag_));
}

void RawStream::ReadDone(bool ok) {
  reading_ = false;
  if (!ok) {
    read_ended_ = true;
    if (handler_ != nullptr) handler_->OnReadEnd();
    return;
  }
  grpc::ByteBuffer message;
  message.Swap(&incoming_);
  if (handler_ != nullptr) handler_->OnMessage(std::move(message));
  StartReading();
}

void RawStream::WriteDone(bool ok) {
  writing_ = false;
  queued_bytes_ -= writing_bytes_;
  writing_bytes_ = 0;
  if (!ok) {
    refuse_writes_ = true;
    queue_.clear();
    queued_bytes_ = 0;
    WriteFailed();
    return;
  }
  WriteNext();
  if (handler_ != nullptr) handler_->OnWritten();
  if (writes_idle()) WritesFlushed();
}

}  // namespace trireme::raft
