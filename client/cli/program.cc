#include "client/cli/program.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"

namespace trireme::client {
namespace {

constexpr char kAbout[] =
    "Trireme: a replicated message broker. This command manages clusters, queues and exchanges, publishes, consumes "
    "and measures.";

constexpr char kFooter[] =
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
    "\n`trireme COMMAND --help` says more, with examples.\n";

// The last of the words that name commands.
const CLI::App& Innermost(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : Innermost(*chosen.front());
}

std::string PathOf(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : absl::StrCat(PathOf(*app.get_parent()), " ", app.get_name());
}

std::vector<std::string> CommandsOf(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

// With those of the commands around it, which are taken everywhere.
std::vector<std::string> OptionsOf(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  if (app.get_parent() != nullptr) {
    for (std::string& name : OptionsOf(*app.get_parent())) names.push_back(std::move(name));
  }
  return names;
}

std::string Meant(const std::string& given, const std::vector<std::string>& known) {
  const std::string nearest = Nearest(given.substr(0, given.find('=')), known);
  return nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?");
}

// What is wrong with the command line. CLI11 speaks of a missing command or argument where an unknown one was given.
std::string Explain(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& at = Innermost(app);
  const std::vector<std::string> rest = app.remaining(/*recurse=*/true);
  const bool unknown = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr ||
                       dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  std::string what;
  if (unknown && !rest.empty()) {
    const std::string& first = rest.front();
    const std::vector<std::string> commands = CommandsOf(at);
    if (first.size() > 1 && first.front() == '-') {
      what = absl::StrCat(PathOf(at), " has no option ", first, Meant(first, OptionsOf(at)));
    } else if (!commands.empty()) {
      what = absl::StrCat(PathOf(at), " has no command '", first, "'", Meant(first, commands));
    } else {
      what = absl::StrCat(PathOf(at), " has no use for '", first, "'");
    }
  } else {
    what = absl::StrCat(PathOf(at), ": ", error.what());
  }
  return absl::StrCat(what, "\n`", PathOf(at), " --help` says what it takes");
}

// Parsing ended before it was known.
bool WantsJson(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--output=json") return true;
    if (arguments[i] == "--output" && i + 1 < arguments.size() && arguments[i + 1] == "json") return true;
  }
  return false;
}

}  // namespace

int RunProgram(const std::vector<std::string>& arguments) {
  CLI::App app{kAbout, "trireme"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_help_all_flag("--help-all", "Print the help of every command and exit");
  app.set_version_flag("--version", TRIREME_VERSION);
  Command command(app);
  AddClusterCommands(app, command);
  AddQueueCommands(app, command);
  AddSubscriptionCommands(app, command);
  AddRedriveCommand(app, command);
  AddExchangeCommands(app, command);
  AddBindingCommands(app, command);
  AddMessageCommands(app, command);
  AddLeaseCommands(app, command);
  AddPublishCommand(app, command);
  AddConsumeCommand(app, command);
  AddRequestCommands(app, command);
  AddBenchCommand(app, command);
  // Last: commands inherit what is there when they are made.
  app.footer(kFooter);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    // Help and version are "errors", too, with the code 0.
    if (error.get_exit_code() == 0) return app.exit(error);
    if (WantsJson(arguments)) command.WantJson();
    return command.Usage(Explain(app, error));
  }
  return command.Run();
}

}  // namespace trireme::client
