// Many calls at once, with a bound on how many.
#pragma once

#include <cstddef>
#include <functional>

#include "absl/status/status.h"

namespace trireme::client {

// Calls `act(index, done)` for each of `count` things, many at a time, and waits for all that were begun. `done` is
// called once, from any thread. Gives the first error, after which none is begun any more; CANCELLED: interrupted.
// `what`: for the progress that is shown of a hundred and more, "created".
absl::Status ForAll(size_t count, const char* what,
                    const std::function<void(size_t, std::function<void(absl::Status)>)>& act);

}  // namespace trireme::client
