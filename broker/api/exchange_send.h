// Broker.Send to an exchange.
#pragma once

#include "broker/api/queue_calls.h"

namespace trireme::broker {

// `call` has a SendRequest whose target is an exchange. Needs no leader: any node routes.
void SendToExchange(const QueueCallPtr& call);

}  // namespace trireme::broker
