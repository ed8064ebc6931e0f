// What the commands of `trireme` share: the servers, the form of the output, errors and exit codes.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"

namespace trireme::client {

// Exit codes, the same for all commands.
enum Exit {
  kExitOk = 0,
  kExitFailed = 1,    // the broker said no, or a file could not be read
  kExitUsage = 2,     // the command line is wrong; nothing was sent
  kExitNoAnswer = 3,  // no node answered in time
  kExitUnknown = 4,   // some messages may or may not be stored
  kExitLost = 5,      // bench: messages that were confirmed did not arrive
};

// Set by SIGINT and SIGTERM: commands that go on and on end in an orderly way.
extern std::atomic<bool> interrupted;

// Members and elements keep the order in which they were put in.
using Json = nlohmann::ordered_json;

class Command {
 public:
  // Adds --server, --timeout and --output to the whole program.
  explicit Command(CLI::App& app);

  // A word that has sub-commands and does nothing by itself.
  CLI::App* AddGroup(CLI::App& app, const std::string& name, const std::string& description);
  // A sub-command. `run` is called after parsing if it was chosen, and gives the exit code. `examples`: lines.
  CLI::App* Add(CLI::App* parent, const std::string& name, const std::string& description, const std::string& examples,
                std::function<int()> run);

  // Null: the error has been printed, and exit_code() says what to return.
  Client* Connect();
  const std::vector<std::string>& servers() const { return server_list_; }
  bool json() const { return output_ == "json"; }
  // Where the command line was refused before --output was read.
  void WantJson() { output_ = "json"; }
  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<int64_t>(timeout_s_ * 1000));
  }

  // Prints the error and what to do next to standard error, and with --output json as {"error": ...} to standard
  // output, in one line; returns the exit code for it.
  int Fail(const absl::Status& status);
  int Usage(const std::string& message);
  // With --output json: prints a command's result, with the error as its member "error" if there is one. Then as Fail.
  int Finish(Json result, const absl::Status& status);
  // As Fail, but to standard error only.
  int Say(const absl::Status& status);
  // What Fail prints of it in JSON.
  Json ErrorJson(const absl::Status& status) const;
  int exit_code() const { return exit_code_; }

  // Runs what was chosen.
  int Run();

 private:
  // What to do about it, or "".
  std::string Advice(const absl::Status& status) const;

  std::string server_ = "127.0.0.1:7650";
  std::string output_ = "table";
  double timeout_s_ = 30;
  std::vector<std::string> server_list_;
  std::unique_ptr<Client> client_;
  std::function<int()> chosen_;
  int exit_code_ = kExitOk;
};

// Rows under a heading, columns as wide as needed.
class Table {
 public:
  explicit Table(std::vector<std::string> heading) { rows_.push_back(std::move(heading)); }
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string Text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Takes numbers above 0.
CLI::Validator Positive();

// Which of `known` was probably meant by `given`; "" if it is like none of them.
std::string Nearest(const std::string& given, const std::vector<std::string>& known);

// A name with %d for each of 1 to count, or the name itself where count is 1. INVALID_ARGUMENT: a count above 1 and no
// %d.
absl::StatusOr<std::vector<std::string>> ExpandNames(const std::string& pattern, uint32_t count);

// What --header says. Without a value: the value has no kind.
struct Header {
  std::string name;
  v1::Value value;
};
// NAME=TEXT, NAME:=JSON (a number, true or false), or NAME. INVALID_ARGUMENT names what was given.
absl::StatusOr<Header> ParseHeader(const std::string& text);
Json ValueJson(const v1::Value& value);

// "1,234,567".
std::string Thousands(uint64_t number);
std::string Hex(const std::string& bytes);
// 32 hexadecimal digits as 16 bytes. INVALID_ARGUMENT names what was given.
absl::StatusOr<std::string> ParseClusterId(const std::string& hex);
// An even number of hexadecimal digits as bytes. INVALID_ARGUMENT names what was given.
absl::StatusOr<std::string> ParseHex(const std::string& hex);
// "index:slot".
std::string PositionText(uint64_t position);
// That, or the number alone. INVALID_ARGUMENT names what was given.
absl::StatusOr<uint64_t> ParsePosition(const std::string& text);
// Who holds a message, or is the active consumer.
std::string HolderText(const v1::Holder& holder);
Json HolderJson(const v1::Holder& holder);
Json SubscriptionJson(const v1::SubscriptionFigures& subscription);
std::string SubscriptionsTable(const v1::QueueFigures& figures);
// Milliseconds since the Unix epoch as UTC, "2024-05-01T12:00:00Z".
std::string TimeText(int64_t ms);

void AddClusterCommands(CLI::App& app, Command& command);
void AddQueueCommands(CLI::App& app, Command& command);
void AddSubscriptionCommands(CLI::App& app, Command& command);
void AddRedriveCommand(CLI::App& app, Command& command);
void AddExchangeCommands(CLI::App& app, Command& command);
void AddBindingCommands(CLI::App& app, Command& command);
// To the queues' commands.
void AddBrowseCommand(CLI::App& queue, Command& command);
void AddMessageCommands(CLI::App& app, Command& command);
void AddLeaseCommands(CLI::App& app, Command& command);
void AddPublishCommand(CLI::App& app, Command& command);
void AddConsumeCommand(CLI::App& app, Command& command);
// request and reply.
void AddRequestCommands(CLI::App& app, Command& command);
void AddBenchCommand(CLI::App& app, Command& command);

}  // namespace trireme::client
