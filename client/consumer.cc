#include "client/consumer.h"

#include <utility>

#include "client/consumer_impl.h"

namespace trireme::client {

Consumer::Consumer(std::shared_ptr<ConsumerImpl> impl) : impl_(std::move(impl)) {}

Consumer::~Consumer() {
  // Held until the end, so that the client's thread is never the one to end itself.
  std::shared_ptr<Core> core = impl_->Close();
}

absl::Status Consumer::WaitOpen(std::chrono::milliseconds timeout) {
  return impl_->WaitOpen(timeout);
}

absl::StatusOr<std::vector<Delivery>> Consumer::Next(size_t max, std::chrono::milliseconds timeout) {
  return impl_->Next(max, timeout);
}

void Consumer::Requeue(const Delivery& delivery, std::chrono::milliseconds delay) {
  impl_->Settle({&delivery, 1}, v1::DISPOSITION_REQUEUE, delay);
}

void Consumer::Settle(std::span<const Delivery> deliveries, v1::Disposition disposition) {
  impl_->Settle(deliveries, disposition);
}

absl::Status Consumer::Flush(std::chrono::milliseconds timeout) {
  return impl_->Flush(timeout);
}

void Consumer::SetLimits(uint32_t max_outstanding_messages, uint64_t max_outstanding_bytes) {
  impl_->SetLimits(max_outstanding_messages, max_outstanding_bytes);
}

std::string Consumer::queue() const {
  return impl_->queue();
}

bool Consumer::standby() const {
  return impl_->standby();
}

absl::Status Consumer::closed() const {
  return impl_->closed();
}
uint64_t Consumer::held() const {
  return impl_->held();
}
uint64_t Consumer::leases_lost() const {
  return impl_->leases_lost();
}
uint64_t Consumer::reconnects() const {
  return impl_->connector().reconnects();
}
std::string Consumer::server() const {
  return impl_->connector().server();
}

}  // namespace trireme::client
