// request: asks, and waits for the reply. reply: answers what is asked.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/message_text.h"
#include "client/cli/run_command.h"

namespace trireme::client {
namespace {

constexpr std::chrono::milliseconds kPoll{200}, kMaxTimeout{60'000};
// So that it fits the broker's default limit of a message.
constexpr size_t kMaxReplyBytes = 3'600'000;
// Of a reply to a request whose command failed, whose message it then has.
constexpr char kErrorHeader[] = "trireme-error";

struct RequestArguments {
  std::string queue;
  std::string text;
  bool has_text = false;
  std::string correlation_id;
  std::vector<std::string> headers;
};

int Ask(Command& command, const RequestArguments& arguments) {
  v1::RequestRequest request;
  request.set_queue(arguments.queue);
  v1::Message& message = *request.mutable_message();
  for (const std::string& header : arguments.headers) {
    absl::StatusOr<Header> parsed = ParseHeader(header);
    if (!parsed.ok()) return command.Usage(std::string(parsed.status().message()));
    if (parsed->value.kind_case() == v1::Value::KIND_NOT_SET)
      return command.Usage(absl::StrCat("--header ", header, " is not NAME=VALUE"));
    (*message.mutable_headers())[parsed->name] = parsed->value;
  }
  message.set_correlation_id(arguments.correlation_id);
  message.set_body(arguments.has_text ? arguments.text
                                      : std::string(std::istreambuf_iterator<char>(std::cin.rdbuf()), {}));
  const auto timeout = std::min(command.timeout(), kMaxTimeout);
  request.set_timeout_ms(static_cast<uint32_t>(std::max<int64_t>(1, timeout.count())));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::RequestResponse> response = client->Request(std::move(request));
  if (!response.ok()) return command.Fail(response.status());
  const v1::Message& reply = response->reply();
  const auto error = reply.headers().find(kErrorHeader);
  if (command.json()) {
    Json json = Json::object();
    PutMessage(json, reply);
    std::printf("%s\n", json.dump().c_str());
  } else if (error == reply.headers().end()) {
    std::fwrite(reply.body().data(), 1, reply.body().size(), stdout);
    if (!reply.body().ends_with('\n')) std::fputc('\n', stdout);
  }
  if (error == reply.headers().end()) return kExitOk;
  return command.Say(absl::FailedPreconditionError(absl::StrCat("the replier says: ", error->second.text())));
}

struct ReplyArguments {
  std::string queue;
  std::string shell;
  bool echo = false;
  uint64_t count = 0;
};

class Replying {
 public:
  Replying(Command& command, const ReplyArguments& arguments) : command_(command), arguments_(arguments) {}

  int Run() {
    client_ = command_.Connect();
    if (client_ == nullptr) return command_.exit_code();
    ConsumerOptions options;
    options.queue = arguments_.queue;
    options.label = "trireme reply";
    // What it does not get to in time is better done by another.
    options.max_outstanding_messages = arguments_.echo ? 100 : 1;
    absl::StatusOr<std::unique_ptr<Consumer>> created = client_->CreateConsumer(std::move(options));
    if (!created.ok()) return command_.Fail(created.status());
    consumer_ = *std::move(created);
    if (absl::Status status = consumer_->WaitOpen(command_.timeout()); !status.ok()) return command_.Fail(status);
    uint64_t answered = 0;
    while (!interrupted && (arguments_.count == 0 || answered < arguments_.count)) {
      absl::StatusOr<std::vector<Delivery>> messages = consumer_->Next(1, kPoll);
      if (!messages.ok()) return command_.Fail(messages.status());
      for (const Delivery& delivery : *messages) {
        if (absl::Status status = Answer(delivery); !status.ok()) {
          consumer_->Requeue(delivery);
          return command_.Fail(status);
        }
        ++answered;
      }
    }
    if (absl::Status status = consumer_->Flush(command_.timeout()); !status.ok()) return command_.Fail(status);
    return kExitOk;
  }

 private:
  absl::Status Answer(const Delivery& delivery) {
    absl::StatusOr<v1::Message> request = delivery.Decode();
    if (!request.ok()) return request.status();
    const int64_t now_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    if (request->expires_at_ms() != 0 && request->expires_at_ms() < now_ms) {
      std::fprintf(stderr, "trireme: message %s: nobody waits for the reply any more; left out\n",
                   PositionText(delivery.position()).c_str());
    } else if (absl::Status sent = Reply(*request, delivery.position()); !sent.ok()) {
      return sent;
    }
    // Only now: a reply that was not sent is tried again, by whoever gets the request next.
    consumer_->Acknowledge(delivery);
    return absl::OkStatus();
  }

  absl::Status Reply(const v1::Message& request, uint64_t position) {
    absl::StatusOr<std::string> body = request.body();
    if (!arguments_.echo) body = RunShell(arguments_.shell, request.body(), kMaxReplyBytes);
    if (!body.ok()) {
      std::fprintf(stderr, "trireme: message %s: %s\n", PositionText(position).c_str(),
                   std::string(body.status().message()).c_str());
    }
    if (request.reply_to().empty()) return absl::OkStatus();
    v1::SendRequest send;
    send.set_queue(request.reply_to());
    v1::Message& reply = *send.mutable_batch()->add_messages();
    reply.set_correlation_id(request.correlation_id());
    if (body.ok()) {
      reply.set_body(*std::move(body));
    } else {
      (*reply.mutable_headers())[kErrorHeader].set_text(std::string(body.status().message()));
    }
    const absl::Status sent = client_->Send(send).status();
    if (!absl::IsNotFound(sent)) return sent;
    std::fprintf(stderr, "trireme: message %s: %s\n", PositionText(position).c_str(),
                 std::string(sent.message()).c_str());
    return absl::OkStatus();
  }

  Command& command_;
  const ReplyArguments& arguments_;
  Client* client_ = nullptr;
  std::unique_ptr<Consumer> consumer_;
};

}  // namespace

void AddRequestCommands(CLI::App& app, Command& command) {
  auto asked = std::make_shared<RequestArguments>();
  CLI::App* request = command.Add(
      &app, "request", "Publish a request and print the reply to it; --timeout says how long to wait, 60 s at most",
      "  trireme request prices 'two anchors' --timeout 5\n"
      "  trireme request prices < question.json --output json\n",
      [&command, asked, &app] {
        asked->has_text = app.get_subcommand("request")->count("BODY") > 0;
        return Ask(command, *asked);
      });
  request->add_option("QUEUE", asked->queue, "Where those who reply take requests from")->required();
  request->add_option("BODY", asked->text, "The request; standard input if not given");
  request->add_option("--correlation-id", asked->correlation_id, "For the replier; replies are told apart without it");
  request->add_option("--header", asked->headers, "NAME=TEXT, or NAME:=JSON for a number, true or false");

  auto answered = std::make_shared<ReplyArguments>();
  CLI::App* reply =
      command.Add(&app, "reply", "Take requests from a queue and answer each by a command's output, until Ctrl-C",
                  "  trireme reply prices --exec './price'       # the request's body is its standard input\n"
                  "  trireme reply test --echo --count 1\n",
                  [&command, answered] {
                    if (answered->echo == !answered->shell.empty())
                      return command.Usage("give one of --exec COMMAND and --echo");
                    return Replying(command, *answered).Run();
                  });
  reply->add_option("QUEUE", answered->queue, "Where requests come")->required();
  reply->add_option("--exec", answered->shell,
                    "Run by /bin/sh for each request; where it fails the reply is a header 'trireme-error'");
  reply->add_flag("--echo", answered->echo, "Reply with the request's own body");
  reply->add_option("--count", answered->count, "End after so many requests")->check(Positive());
}

}  // namespace trireme::client
