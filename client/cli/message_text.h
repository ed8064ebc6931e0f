// How messages are printed.
#pragma once

#include "client/cli/command.h"
#include "trireme/v1/message.pb.h"

namespace trireme::client {

// The fields that are set, the body last; what is no text as base64 under "..._base64".
void PutMessage(Json& json, const v1::Message& message);

}  // namespace trireme::client
