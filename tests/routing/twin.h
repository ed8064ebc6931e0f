// A deliberately plain twin of the routing table: lists that it goes through, patterns by recursion.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "broker/routing/binding.h"
#include "trireme/v1/message.pb.h"

namespace trireme::broker {

struct RoutingTwin {
  struct Exchange {
    ExchangeType type;
    std::string alternate;
  };

  std::set<std::string> Route(const std::string& exchange, const std::string& key,
                              const trireme::v1::Message& message) const;

  std::set<std::string> queues;
  std::map<std::string, Exchange> exchanges;
  std::vector<Binding> bindings;

 private:
  bool Matches(const Binding& binding, const std::string& key, const trireme::v1::Message& message) const;
};

}  // namespace trireme::broker
