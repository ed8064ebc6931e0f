// Queues' replicas as the nodes that hold them say they are.
#pragma once

#include <string>
#include <vector>

#include "client/cli/command.h"

namespace trireme::client {

// `trireme queue replicas NAME`: each replica's place, index and digest, and whether they agree (Safety rule 25).
int ShowReplicas(Command& command, const std::string& name);

// Waits, for at most the command's timeout, until every node of the cluster is up and says so of the others, and every
// replica has applied what its queue's leader had applied when it was looked at first. DEADLINE_EXCEEDED says what is
// still behind. `behind`: all that is, in words, at most a few.
absl::Status WaitUntilCaughtUp(Command& command, Client& client, std::vector<std::string>& behind);

}  // namespace trireme::client
