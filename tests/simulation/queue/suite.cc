#include "tests/simulation/queue/suite.h"

#include "tests/simulation/queue/checkers/confirmed_is_kept.h"
#include "tests/simulation/queue/checkers/current_figures.h"
#include "tests/simulation/queue/checkers/delivery_count.h"
#include "tests/simulation/queue/checkers/key_order.h"
#include "tests/simulation/queue/checkers/live_is_kept.h"
#include "tests/simulation/queue/checkers/members.h"
#include "tests/simulation/queue/checkers/old_token.h"
#include "tests/simulation/queue/checkers/one_holder.h"
#include "tests/simulation/queue/checkers/producer_order.h"
#include "tests/simulation/queue/checkers/replicas_agree.h"
#include "tests/simulation/queue/checkers/settled_stays.h"
#include "tests/simulation/queue/checkers/snapshot_is_replay.h"

namespace trireme::queue_simulation {

Suite::Suite() {
  checkers_.push_back(std::make_unique<ConfirmedIsKept>());
  checkers_.push_back(std::make_unique<OneHolder>());
  checkers_.push_back(std::make_unique<SettledStays>());
  checkers_.push_back(std::make_unique<OldToken>());
  checkers_.push_back(std::make_unique<DeliveryCount>());
  checkers_.push_back(std::make_unique<ProducerOrder>());
  checkers_.push_back(std::make_unique<CurrentFigures>());
  checkers_.push_back(std::make_unique<ReplicasAgree>());
  checkers_.push_back(std::make_unique<SnapshotIsReplay>());
  checkers_.push_back(std::make_unique<Members>());
  checkers_.push_back(std::make_unique<LiveIsKept>());
  checkers_.push_back(std::make_unique<InOrderOfKeys>());
}

}  // namespace trireme::queue_simulation
