// trireme: the command line of the broker.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "client/cli/command.h"

namespace {

void Interrupt(int) {
  // The second one ends the program at once.
  if (trireme::client::interrupted.exchange(true)) std::_Exit(130);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace trireme::client;
  // A library that was built for debugging looks for cycles at every lock, gRPC's included: about 2 % of a profile.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  CLI::App app{
      "Trireme: a replicated message broker. This command manages clusters, queues and exchanges, publishes, "
      "consumes and measures.",
      "trireme"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_help_all_flag("--help-all", "Print the help of every command and exit");
  app.set_version_flag("--version", TRIREME_VERSION);
  app.footer(
      "Examples:\n"
      "  export TRIREME_SERVER=10.0.0.1:7650,10.0.0.2:7650,10.0.0.3:7650\n"
      "  trireme cluster init                        # once, after the nodes have been started\n"
      "  trireme queue create orders\n"
      "  trireme publish orders 'hello'\n"
      "  trireme consume orders --ack --count 1\n"
      "  trireme queue list --output json\n"
      "  trireme bench --messages 100000 --size 1024\n"
      "\nExit codes: 0 done; 1 failed, the message says why; 2 wrong usage; 3 no node answered;\n"
      "4 some messages may or may not be stored; 5 bench: confirmed messages were lost.\n"
      "\n`trireme COMMAND --help` says more, with examples.\n");
  Command command(app);
  AddClusterCommands(app, command);
  AddQueueCommands(app, command);
  AddExchangeCommands(app, command);
  AddBindingCommands(app, command);
  AddPublishCommand(app, command);
  AddConsumeCommand(app, command);
  AddBenchCommand(app, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    // CLI11 says that a command is missing where an unknown one was given.
    const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
    if (rest.empty()) return app.exit(error) == 0 ? kExitOk : kExitUsage;
    std::fprintf(stderr, "trireme: '%s' is no command; trireme --help lists them\n", rest.front().c_str());
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    // Help and version are "errors", too, with the code 0.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  std::signal(SIGINT, Interrupt);
  std::signal(SIGTERM, Interrupt);
  std::signal(SIGPIPE, SIG_IGN);
  return command.Run();
}
