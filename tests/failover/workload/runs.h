// Deliveries and settles gathered into runs for the history.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "client/delivery.h"
#include "tests/failover/history/event.h"
#include "tests/failover/workload/body.h"

namespace trireme::failover {

// What came, as Delivered runs, and Corrupt for bodies that nobody made.
inline void AppendDelivered(uint32_t consumer, std::span<const client::Delivery> deliveries, std::vector<Event>& out) {
  Delivered run;
  auto end_run = [&] {
    if (run.count > 0) out.push_back(run);
    run = {};
  };
  for (const client::Delivery& delivery : deliveries) {
    const absl::StatusOr<BodyName> name = ReadBody(delivery.body());
    if (!name.ok()) {
      end_run();
      out.push_back(Corrupt{consumer, delivery.position(), std::string(name.status().message())});
      continue;
    }
    const bool continues = run.count > 0 && delivery.position() == run.position + run.count &&
                           delivery.checkout_index() == run.token && delivery.deliveries() == run.deliveries &&
                           name->producer == run.producer && name->sequence == run.first + run.count;
    if (continues) {
      ++run.count;
      continue;
    }
    end_run();
    run = {consumer,
           delivery.position(),
           delivery.checkout_index(),
           1,
           delivery.deliveries(),
           name->producer,
           name->sequence,
           0};
  }
  end_run();
}

// As Settle runs; takes serials from `serial` on.
inline void AppendSettles(uint32_t consumer, std::span<const client::Delivery> deliveries, Disposition disposition,
                          uint64_t& serial, std::vector<Event>& out) {
  Settle run;
  auto end_run = [&] {
    if (run.count > 0) out.push_back(run);
  };
  for (const client::Delivery& delivery : deliveries) {
    if (run.count > 0 && delivery.position() == run.position + run.count && delivery.checkout_index() == run.token) {
      ++run.count;
      continue;
    }
    end_run();
    run = {consumer, ++serial, disposition, delivery.position(), delivery.checkout_index(), 1};
  }
  end_run();
}

}  // namespace trireme::failover
