#include "client/core.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "trireme/v1/cluster.pb.h"

namespace trireme::client {
namespace {

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

// The node may be dead, or the answer lost: whether the call had an effect is unknown.
bool OutcomeUnknown(grpc::StatusCode code) {
  return code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::DEADLINE_EXCEEDED ||
         code == grpc::StatusCode::CANCELLED;
}

}  // namespace

// One call and its tries. The loop's own once started.
class Core::UnaryCall : public Loop::Operation, public std::enable_shared_from_this<Core::UnaryCall> {
 public:
  UnaryCall(Core& core, CallOptions options, std::string request, absl::AnyInvocable<void(CallAnswer)> done)
      : core_(core),
        options_(std::move(options)),
        request_(ToBuffer(request)),
        done_(std::move(done)),
        backoff_(core.RandomNumber()) {}

  void Start() {
    deadline_ = std::chrono::steady_clock::now() + options_.timeout;
    server_ = options_.server.empty() ? core_.servers_.Next("", core_.loop_.Now()) : options_.server;
    Try();
  }

  void Cancel() {
    cancelled_ = true;
    if (context_ != nullptr) {
      context_->TryCancel();
    } else {
      Finish(absl::CancelledError("the client was closed"));
    }
  }

  void Complete(bool) override {
    auto keep = shared_from_this();
    reader_ = nullptr;  // lives in the call's own memory, which the context keeps
    context_ = nullptr;
    if (cancelled_) return Finish(absl::CancelledError("the client was closed"));
    if (status_.ok()) {
      core_.servers_.Answered(server_);
      return Finish(ToString(response_));
    }
    const Time now = std::chrono::steady_clock::now();
    const bool unknown = OutcomeUnknown(status_.error_code());
    const absl::Status status = ToStatus(status_);
    if (unknown) {
      tried_before_ = true;
      core_.servers_.Failed(server_, now);
    }
    if (!unknown || !options_.repeatable) return Finish(status);
    if (!options_.only_there) next_ = core_.servers_.Next(server_, now);
    const Duration pause = backoff_.Next();
    if (now + pause >= deadline_) return Finish(OutOfTime(status));
    if (SaidByBroker(status)) {
      told_ = status;
      told_by_ = server_;
    }
    core_.loop_.After(pause, [this, keep] {
      if (!finished_) Try();
    });
  }

 private:
  void Try() {
    ++tries_;
    if (!next_.empty()) server_ = std::exchange(next_, "");
    const auto left = deadline_ - std::chrono::steady_clock::now();
    const Duration limit = options_.repeatable ? std::min<Duration>(left, options_.try_timeout) : left;
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() +
                           std::chrono::duration_cast<std::chrono::system_clock::duration>(limit));
    grpc::GenericStub stub(core_.ChannelTo(server_));
    reader_ = stub.PrepareUnaryCall(context_.get(), options_.method, request_, core_.loop_.completion_queue());
    response_.Clear();
    reader_->StartCall();
    reader_->Finish(&response_, &status_, core_.loop_.Tag(this));
  }

  // The last try often ends by this client's own clock, which knows no reason: a broker that gave one is quoted.
  absl::Status OutOfTime(const absl::Status& last) const {
    std::string words =
        absl::StrCat("no answer within ", options_.timeout.count(), " ms after ", tries_,
                     tries_ == 1 ? " try" : " tries", "; the last, to ", server_, ": ", std::string(last.message()));
    const bool quote = !SaidByBroker(last) && !told_.ok();
    if (quote) absl::StrAppend(&words, "; before that, ", told_by_, ": ", std::string(told_.message()));
    return WithFacts(absl::StatusCode::kDeadlineExceeded, words, quote ? told_ : last);
  }

  void Finish(absl::StatusOr<std::string> bytes) {
    if (std::exchange(finished_, true)) return;
    auto keep = shared_from_this();
    core_.calls_.erase(keep);
    done_(CallAnswer{std::move(bytes), server_, tried_before_});
  }

  Core& core_;
  const CallOptions options_;
  const grpc::ByteBuffer request_;
  absl::AnyInvocable<void(CallAnswer)> done_;
  Backoff backoff_;
  Time deadline_;
  std::string server_;
  std::string next_;
  int tries_ = 0;
  // The last that a broker said of an earlier try, and which one did; OK: none has said anything.
  absl::Status told_;
  std::string told_by_;
  bool tried_before_ = false;
  bool cancelled_ = false;
  bool finished_ = false;
  // Of the try under way; null in between.
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader_;
  grpc::ByteBuffer response_;
  grpc::Status status_;
};

Core::Core(std::vector<std::string> servers, std::shared_ptr<grpc::ChannelCredentials> credentials,
           std::chrono::milliseconds call_timeout)
    : credentials_(std::move(credentials)),
      call_timeout_(call_timeout),
      servers_(std::move(servers)),
      random_(std::random_device()()) {
  // Sixteen bytes of session id deserve more than one seed word.
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
  random_.seed(seed);
}

Core::~Core() {
  StopCalls();
}

void Core::StopCalls() {
  Notification stopped;
  loop_.Post([this, &stopped] {
    stopped_ = true;
    // Cancel may finish, which takes it out of the set.
    auto calls = calls_;
    for (const auto& call : calls) call->Cancel();
    stopped.Notify();
  });
  stopped.Wait();
}

uint64_t Core::RandomNumber() {
  MutexLock lock(&mutex_);
  return random_();
}

std::string Core::RandomBytes(size_t n) {
  std::string bytes;
  while (bytes.size() < n) {
    uint64_t number = RandomNumber();
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  bytes.resize(n);
  return bytes;
}

std::shared_ptr<grpc::Channel> Core::ChannelTo(const std::string& address) {
  MutexLock lock(&mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    grpc::ChannelArguments arguments;
    // A stream asks the broker for the frames that it can take; what comes is taken.
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    // A node that comes back is found soon; a connection that is not made within two seconds is given up.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2'000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
    // A connection per client: what one is paused for does not hold up another.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel = grpc::CreateCustomChannel(address, credentials_, arguments);
  }
  return channel;
}

void Core::Call(CallOptions options, std::string request, absl::AnyInvocable<void(CallAnswer)> done) {
  auto call = std::make_shared<UnaryCall>(*this, std::move(options), std::move(request), std::move(done));
  auto start = [this, call] {
    LearnNodes();
    calls_.insert(call);
    if (stopped_) return call->Cancel();
    call->Start();
  };
  if (loop_.OnThisThread()) return start();
  loop_.Post(std::move(start));
}

// Once, at the first use: asks a node for the others, so that the loss of the one node that the user named is survived.
void Core::LearnNodes() {
  if (stopped_ || std::exchange(learned_, true)) return;
  CallOptions options;
  options.method = "/trireme.v1.Cluster/Status";
  options.timeout = std::chrono::seconds(10);
  options.try_timeout = std::chrono::seconds(2);
  Call<v1::StatusResponse>(options, v1::StatusRequest(),
                           [this](absl::StatusOr<v1::StatusResponse> status, const CallAnswer&) {
                             // Without an answer the named ones have to do.
                             if (!status.ok()) return;
                             for (const v1::NodeInfo& node : status->nodes()) servers_.Learn(node.address());
                             // Before init a node knows no other: ask again at the next call.
                             if (status->nodes().empty()) learned_ = false;
                           });
}

}  // namespace trireme::client
