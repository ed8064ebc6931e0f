#include "client/cli/for_all.h"

#include <cstdio>
#include <memory>

#include "client/cli/command.h"
#include "client/sync.h"

namespace trireme::client {
namespace {
constexpr size_t kAtOnce = 64;
}

absl::Status ForAll(size_t count, const char* what,
                    const std::function<void(size_t, std::function<void(absl::Status)>)>& act) {
  struct State {
    Mutex mutex;
    CondVar changed;
    size_t running = 0;
    size_t finished = 0;
    absl::Status status;
  };
  auto state = std::make_shared<State>();
  for (size_t i = 0; i < count && !interrupted; ++i) {
    {
      MutexLock lock(&state->mutex);
      while (state->running >= kAtOnce) state->changed.Wait(&state->mutex);
      if (!state->status.ok()) break;
      ++state->running;
    }
    act(i, [state](absl::Status status) {
      MutexLock lock(&state->mutex);
      state->status.Update(status);
      --state->running;
      ++state->finished;
      state->changed.SignalAll();
    });
    if (count >= 100 && (i + 1) % 100 == 0) std::fprintf(stderr, "\r%s %zu of %zu", what, i + 1, count);
  }
  MutexLock lock(&state->mutex);
  while (state->running > 0) state->changed.Wait(&state->mutex);
  if (count >= 100) std::fprintf(stderr, "\r%s %zu of %zu\n", what, state->finished, count);
  if (state->status.ok() && interrupted) return absl::CancelledError("interrupted");
  return state->status;
}

}  // namespace trireme::client
