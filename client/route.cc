#include "client/route.h"

#include <algorithm>
#include <utility>

namespace trireme::client {

Servers::Servers(std::vector<std::string> addresses) : addresses_(std::move(addresses)) {}

void Servers::Learn(const std::string& address) {
  MutexLock lock(&mutex_);
  if (address.empty() || std::find(addresses_.begin(), addresses_.end(), address) != addresses_.end()) return;
  addresses_.push_back(address);
}

void Servers::Failed(const std::string& address, Time now) {
  MutexLock lock(&mutex_);
  avoid_until_[address] = now + kAvoid;
}

void Servers::Answered(const std::string& address) {
  MutexLock lock(&mutex_);
  avoid_until_.erase(address);
}

bool Servers::Avoided(const std::string& address, Time now) const {
  MutexLock lock(&mutex_);
  auto it = avoid_until_.find(address);
  return it != avoid_until_.end() && it->second > now;
}

std::string Servers::Next(const std::string& except, Time now) {
  MutexLock lock(&mutex_);
  std::string second_best;
  for (size_t i = 0; i < addresses_.size(); ++i) {
    const std::string& address = addresses_[turn_++ % addresses_.size()];
    auto it = avoid_until_.find(address);
    bool avoided = it != avoid_until_.end() && it->second > now;
    if (address != except && !avoided) return address;
    if (second_best.empty() || (second_best == except && address != except)) second_best = address;
  }
  return second_best;
}

std::vector<std::string> Servers::all() const {
  MutexLock lock(&mutex_);
  return addresses_;
}

Duration Backoff::Next() {
  std::chrono::microseconds whole = kLongest;
  if (tries_ < 10) whole = std::min<std::chrono::microseconds>(kFirst * (1 << tries_), kLongest);
  ++tries_;
  std::uniform_int_distribution<int64_t> range(whole.count() / 2, whole.count());
  return std::chrono::microseconds(range(random_));
}

}  // namespace trireme::client
