// Bugs that a queue, its host or its streams could have, planted to see that a checker notices.
#pragma once

#include <cstdint>

namespace trireme::queue_simulation {

enum class Plant : uint8_t {
  kNone,
  kConfirmsEarly,     // tells a producer that all is stored when it has only been sent
  kMixesSessions,     // sends a session's messages to another one as well
  kRepeatsSettled,    // sends what was acknowledged again
  kTakesOldTokens,    // answers every token as current
  kMiscounts,         // says a delivery count that is one too high, now and then
  kSwapsRuns,         // sends two entries' messages for one another
  kOldFigures,        // answers with the figures that were asked for first
  kDiverges,          // one node takes an entry for empty
  kKeepsTooLong,      // a consumer works on what it held long after its session's timeout
  kLosesOfSnapshots,  // a snapshot that is restored is an older one
  kDeletesEarly,      // a replica goes as soon as it is to be replaced, while it is a member (Safety rule 11)
  kInstallsHalf,      // a snapshot takes the old state's place before all that is alive came with it (Safety rule 13)
  kForgetsKeys,       // the subscription orders by key, and does not
  kVotesAfterLoss,    // a node whose disk was lost comes back as if it had not been (Safety rule 12)
};

}  // namespace trireme::queue_simulation
