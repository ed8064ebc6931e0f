// Bugs that a host or a machine could have, planted to see that a checker notices.
#pragma once

#include <cstdint>

namespace trireme::simulation {

enum class Plant : uint8_t {
  kNone,
  kForgetsVotes,        // starts without the term and vote that it had stored
  kSendsBeforeSync,     // does not wait for the disk with what must wait for it
  kLyingDisk,           // the disk says "durable" of what is not
  kVotesForAnyone,      // does not look at the candidate's log
  kRewritesAsLeader,    // writes its last entry again, over itself, while it leads
  kCorruptsEntries,     // an entry's body changes on its way
  kAppliesTwice,        // the machine takes an entry in twice now and then
  kServesReadsAtOnce,   // answers a read with its own commit index, without asking anyone
  kOverstatesAllMatch,  // tells followers that all have what they may lack
  kLeaseByTicks,        // serves by the lease as of the last tick, not by the clock
  kAltersCommitted,     // hands on another entry than was committed now and then
  kRewritesCommitted,   // writes over what is committed on its disk
  kSkipsRestore,        // goes on with the old state when a snapshot takes its place
  kLosesVotes,          // no vote arrives, so that nobody is elected
  kWrongAnswer,         // tells the replica of a write that it did not ask for, which ends the process
};

// What `soak --plant` takes.
struct NamedPlant {
  const char* name;
  Plant plant;
};
inline constexpr NamedPlant kNamedPlants[] = {
    {"forgets-votes", Plant::kForgetsVotes},
    {"sends-before-sync", Plant::kSendsBeforeSync},
    {"lying-disk", Plant::kLyingDisk},
    {"votes-for-anyone", Plant::kVotesForAnyone},
    {"rewrites-as-leader", Plant::kRewritesAsLeader},
    {"corrupts-entries", Plant::kCorruptsEntries},
    {"applies-twice", Plant::kAppliesTwice},
    {"serves-reads-at-once", Plant::kServesReadsAtOnce},
    {"overstates-all-match", Plant::kOverstatesAllMatch},
    {"lease-by-ticks", Plant::kLeaseByTicks},
    {"alters-committed", Plant::kAltersCommitted},
    {"rewrites-committed", Plant::kRewritesCommitted},
    {"skips-restore", Plant::kSkipsRestore},
    {"loses-votes", Plant::kLosesVotes},
    {"wrong-answer", Plant::kWrongAnswer},
};

}  // namespace trireme::simulation
