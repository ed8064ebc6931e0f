#include "raft/core/read_rounds.h"

#include <utility>

namespace trireme::raft {

void ReadRounds::Start(Index commit) {
  rounds_.push_back({++last_, commit, std::move(waiting_)});
  waiting_ = {};
}

void ReadRounds::Confirm(uint64_t round, std::vector<ReadReady>& ready) {
  while (!rounds_.empty() && rounds_.front().number <= round) {
    for (uint64_t context : rounds_.front().contexts) ready.push_back({context, rounds_.front().index});
    rounds_.pop_front();
  }
}

void ReadRounds::DropAll(std::vector<ReadReady>& ready) {
  for (; !rounds_.empty(); rounds_.pop_front()) {
    for (uint64_t context : rounds_.front().contexts) ready.push_back({context, std::nullopt});
  }
  for (uint64_t context : waiting_) ready.push_back({context, std::nullopt});
  waiting_ = {};
}

}  // namespace trireme::raft
