// Keeps one stream open to the node that leads a queue: finds it, opens, follows it, and starts again after a break.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/core.h"
#include "client/stream.h"
#include "trireme/v1/broker.pb.h"

namespace trireme::client {

// For the loop's thread only, except where noted.
//
// Before a stream is opened a node is asked who leads the queue; when that one cannot be reached, the stream goes to
// any node, which forwards. A node that falls silent while an answer is awaited is not believed for long: another is
// asked whether the leader has changed.
class Connector : private Stream::Listener {
 public:
  // Called on the loop's thread.
  class Owner {
   public:
    virtual ~Owner() = default;
    // A new stream can take its first frames.
    virtual void OnStarted() = 0;
    // It can take the next one.
    virtual void OnWritable() = 0;
    virtual void OnFrame(grpc::ByteBuffer& frame) = 0;
    // The stream is gone, whatever the reason; the next one is on its way, unless OnGivenUp follows.
    virtual void OnLost() = 0;
    // There will be no other.
    virtual void OnGivenUp(const absl::Status& status) = 0;
  };

  // `queue`: empty where any node serves as well as any other. `method`: "/package.Service/Method". `owner` outlives
  // this.
  Connector(Core& core, std::string queue, std::string method, Owner& owner);
  ~Connector() override { Close(); }

  void Connect();
  // What a stream was opened on any node for, and is to be found again.
  void SetQueue(std::string queue) { queue_ = std::move(queue); }
  // Ends the stream and does nothing any more. The owner is not called.
  void Close();

  // The broker has accepted the stream. `leader`: as it says; a leader elsewhere is followed. True: the stream stays.
  bool Accepted(const v1::Leader& leader);
  // Something was achieved on it, so that the next break starts with a short pause again.
  void Progressed() { backoff_.Reset(); }
  // Leaves for the leader named, or, if that is not known, to find it.
  void Follow(const v1::Leader& leader);
  // Leaves for another node: this one goes away or is of no use.
  void Leave();

  // Whether the owner waits for an answer now: silence is then looked into after kSilence, otherwise after
  // kLongSilence, and less and less often.
  void SetAwaiting(bool awaiting);

  bool writable() const { return stream_ != nullptr && stream_->writable(); }
  void Write(const grpc::ByteBuffer& frame, bool more = false) { stream_->Write(frame, more); }
  void HalfClose() { stream_->HalfClose(); }
  bool accepted() const { return accepted_; }
  // When the broker was heard from last, over all streams.
  Time last_frame() const { return last_frame_; }

  // From any thread.
  std::string server() const;
  uint64_t reconnects() const;
  // That no node has opened the queue within `timeout`, and why, as far as known, with what the broker attached to it.
  absl::Status NotOpened(std::chrono::milliseconds timeout) const;

  static constexpr std::chrono::milliseconds kSilence{600};
  static constexpr std::chrono::milliseconds kLongSilence{3'000};
  // An answer that is awaited for so long is not to be had there.
  static constexpr std::chrono::milliseconds kGiveUp{15'000};
  // While none has answered who leads, another node is asked so often.
  static constexpr std::chrono::milliseconds kAskAnother{500};
  // For a stream to be accepted, elections included.
  static constexpr std::chrono::milliseconds kOpening{8'000};

 private:
  void OnWritable() override;
  void OnFrame(grpc::ByteBuffer& frame) override;
  void OnClosed(const grpc::Status& status) override;

  // Ends the stream, if there is one, and starts again after a pause.
  void Again(bool pause);
  void Find();
  void Ask(const std::string& server);
  // As long as the question is open: the nodes that were asked may wait in vain themselves.
  void AskAnotherLater();
  void OpenAt(const std::string& address);
  // What a broker says is kept over what a connection or this client's own clock says after it.
  void Note(const std::string& server, const absl::Status& status);
  void GiveUp(const absl::Status& status);
  // Whether a call or stream that ended so would end so anywhere, at any time.
  bool Final(absl::StatusCode code) const;
  Time SilentSince() const;
  void Watch();
  void LookInto();
  // Whether the node that the stream goes to still answers anything.
  void Ping();

  Core& core_;
  std::string queue_;
  const std::string method_;
  Owner& owner_;

  std::shared_ptr<Stream> stream_;
  // Calls and timers carry it and are ignored once it has moved on.
  std::shared_ptr<int> attempt_ = std::make_shared<int>(0);
  Backoff backoff_;
  // The question who leads, while it is open, and the nodes that may still answer it; each is asked once at a time.
  std::shared_ptr<int> question_;
  std::vector<std::string> asked_;
  // Where to go next; empty = ask.
  std::string hint_;
  // Who leads, as this stream was told.
  std::string leader_;
  // The last node that a stream went to or that was asked; kept after the stream's end.
  std::string last_server_;
  bool started_ = false;
  bool accepted_ = false;
  bool ever_accepted_ = false;
  bool closed_ = false;
  bool awaiting_ = false;
  bool watching_ = false;
  Time watch_due_;
  Time accepted_at_;
  Time last_frame_;
  Time awaiting_since_;
  Duration look_after_ = kSilence;

  mutable Mutex mutex_;
  std::string server_ ABSL_GUARDED_BY(mutex_);
  uint64_t opened_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace trireme::client
