#include "broker/channels.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "raft/grpc/transport.h"

namespace trireme::broker {

std::shared_ptr<grpc::Channel> Channels::Get(const std::string& address) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    // As Raft's connections, but apart from them: large messages must not hold those up. What is set again counts.
    grpc::ChannelArguments arguments = raft::PeerChannelArguments();
    arguments.SetInt(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, kMaxGrpcMessageBytes);
    // This channel is kept, so it is the one that connects again: soon, and within a second once the node is back.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    // Without calls nobody waits.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
    channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  return channel;
}

}  // namespace trireme::broker
