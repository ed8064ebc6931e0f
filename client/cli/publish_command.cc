#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/command.h"
#include "client/sync.h"

namespace trireme::client {
namespace {

struct Arguments {
  std::string queue;
  std::optional<std::string> exchange;
  bool mandatory = false;
  std::string text;
  bool has_text = false;
  std::string file;
  bool lines = false;
  uint64_t count = 1;
  uint64_t first_sequence = 0;
  std::string key, id, content_type, correlation_id, reply_to, routing_key, producer;
  std::vector<std::string> headers;
  uint32_t priority = 0;
  double ttl_s = 0;
};

// What became of the messages. By the client's thread; read when all are resolved, and for the progress.
struct Tally {
  Mutex mutex;
  uint64_t stored ABSL_GUARDED_BY(mutex) = 0;
  uint64_t duplicates ABSL_GUARDED_BY(mutex) = 0;
  uint64_t unknown ABSL_GUARDED_BY(mutex) = 0;
  uint64_t refused ABSL_GUARDED_BY(mutex) = 0;
  uint64_t unroutable ABSL_GUARDED_BY(mutex) = 0;
  uint64_t first_position ABSL_GUARDED_BY(mutex) = 0;
  uint64_t last_position ABSL_GUARDED_BY(mutex) = 0;
  std::string reason ABSL_GUARDED_BY(mutex);

  void Count(const Confirmation& confirmation) {
    MutexLock lock(&mutex);
    if (confirmation.stored()) {
      stored += confirmation.count;
      if (confirmation.outcome == v1::OUTCOME_DUPLICATE) duplicates += confirmation.count;
      if (first_position == 0) first_position = confirmation.first_position;
      last_position = confirmation.first_position + confirmation.count - 1;
      return;
    }
    (confirmation.outcome == v1::OUTCOME_UNKNOWN      ? unknown
     : confirmation.outcome == v1::OUTCOME_UNROUTABLE ? unroutable
                                                      : refused) += confirmation.count;
    reason = std::string(confirmation.reason);
  }
};

class Publishing {
 public:
  Publishing(Command& command, const Arguments& arguments) : command_(command), arguments_(arguments) {}

  int Run() {
    if (absl::Status status = Fill(message_); !status.ok()) return command_.Usage(std::string(status.message()));
    std::ifstream file;
    if (!arguments_.file.empty() && arguments_.file != "-") {
      file.open(arguments_.file, std::ios::binary);
      if (!file) {
        return command_.Usage(
            absl::StrCat("--file ", arguments_.file, " cannot be read; name a readable file, or - for standard input"));
      }
    }
    Client* client = command_.Connect();
    if (client == nullptr) return command_.exit_code();
    ProducerOptions options;
    options.queue = arguments_.queue;
    options.exchange = arguments_.exchange;
    options.mandatory = arguments_.mandatory;
    options.name = arguments_.producer;
    options.first_sequence = arguments_.first_sequence;
    options.delivery_timeout = command_.timeout();
    options.on_confirm = [this](Producer&, const Confirmation& confirmation) { tally_.Count(confirmation); };
    absl::StatusOr<std::unique_ptr<Producer>> producer = client->CreateProducer(std::move(options));
    if (!producer.ok()) return command_.Fail(producer.status());
    producer_ = *std::move(producer);
    if (absl::StatusOr<uint64_t> opened = producer_->WaitOpen(command_.timeout()); !opened.ok()) {
      return command_.Fail(opened.status());
    }
    absl::Status status = arguments_.has_text ? Repeat(arguments_.text) : FromStream(file.is_open() ? file : std::cin);
    // A little more than the time after which each message has an outcome.
    absl::Status flushed = producer_->Flush(command_.timeout() + std::chrono::seconds(5));
    Progress(true);
    return Report(status.ok() ? flushed : status);
  }

 private:
  absl::Status Fill(v1::Message& message) const {
    message.set_key(arguments_.key);
    message.set_id(arguments_.id);
    message.set_content_type(arguments_.content_type);
    message.set_correlation_id(arguments_.correlation_id);
    message.set_reply_to(arguments_.reply_to);
    message.set_routing_key(arguments_.routing_key);
    message.set_priority(arguments_.priority);
    if (arguments_.ttl_s > 0) {
      message.set_expires_at_ms(absl::ToUnixMillis(absl::Now()) + static_cast<int64_t>(arguments_.ttl_s * 1000));
    }
    for (const std::string& header : arguments_.headers) {
      absl::StatusOr<Header> parsed = ParseHeader(header);
      if (!parsed.ok()) return parsed.status();
      if (parsed->value.kind_case() == v1::Value::KIND_NOT_SET) {
        return absl::InvalidArgumentError(absl::StrCat("--header ", header, " is not NAME=VALUE"));
      }
      (*message.mutable_headers())[parsed->name] = parsed->value;
    }
    return absl::OkStatus();
  }

  absl::Status FromStream(std::istream& stream) {
    const bool whole = !arguments_.file.empty() && !arguments_.lines;
    if (whole) return Repeat(std::string(std::istreambuf_iterator<char>(stream), {}));
    if (&stream == &std::cin && isatty(STDIN_FILENO) != 0) {
      std::fprintf(stderr, "Each line is a message; end with Ctrl-D.\n");
    }
    for (std::string line; !interrupted && std::getline(stream, line);) {
      if (absl::Status status = Repeat(line); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Repeat(const std::string& body) {
    message_.set_body(body);
    for (uint64_t i = 0; i < arguments_.count && !interrupted; ++i) {
      absl::StatusOr<uint64_t> ticket = producer_->Publish(message_);
      if (!ticket.ok()) return ticket.status();
      ++published_;
      Progress(false);
    }
    return absl::OkStatus();
  }

  void Progress(bool last) {
    // A clock reading per message would cost more than the rest.
    if (!last && published_ % 256 != 0) return;
    const auto now = std::chrono::steady_clock::now();
    if (!last && now - shown_ < std::chrono::milliseconds(500)) return;
    if (last && !showing_) return;
    shown_ = now;
    showing_ = true;
    uint64_t stored;
    {
      MutexLock lock(&tally_.mutex);
      stored = tally_.stored;
    }
    std::fprintf(stderr, "\r%s published, %s confirmed%s", Thousands(published_).c_str(), Thousands(stored).c_str(),
                 last ? "\n" : "");
  }

  int Report(const absl::Status& status) {
    MutexLock lock(&tally_.mutex);
    if (command_.json()) {
      Json json = {{"published", published_},   {"confirmed", tally_.stored}, {"duplicates", tally_.duplicates},
                   {"unknown", tally_.unknown}, {"refused", tally_.refused},  {"unroutable", tally_.unroutable},
                   {"reason", tally_.reason}};
      if (arguments_.exchange) {
        json["exchange"] = *arguments_.exchange;
      } else {
        json["queue"] = arguments_.queue;
      }
      if (tally_.stored > 0 && !arguments_.exchange) {
        json["first_position"] = tally_.first_position;
        json["last_position"] = tally_.last_position;
      }
      if (const absl::Status failed = Outcome(status); !failed.ok()) json["error"] = command_.ErrorJson(failed);
      std::printf("%s\n", json.dump(2).c_str());
    } else {
      std::string text =
          absl::StrCat(Thousands(tally_.stored), tally_.stored == 1 ? " message" : " messages", " confirmed");
      const bool placed = !arguments_.exchange;
      if (placed && tally_.stored == 1) absl::StrAppend(&text, " at position ", PositionText(tally_.first_position));
      if (placed && tally_.stored > 1) {
        absl::StrAppend(&text, " at positions ", PositionText(tally_.first_position), " to ",
                        PositionText(tally_.last_position));
      }
      if (tally_.duplicates > 0) absl::StrAppend(&text, ", ", Thousands(tally_.duplicates), " of them known before");
      std::printf("%s\n", text.c_str());
    }
    const absl::Status failed = Outcome(status);
    return failed.ok() ? kExitOk : command_.Say(failed);
  }

  // The worst of what became of the messages.
  absl::Status Outcome(const absl::Status& status) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(tally_.mutex) {
    if (tally_.unknown > 0) {
      return absl::UnknownError(absl::StrCat("of ", Thousands(tally_.unknown),
                                             " messages it is unknown whether they are stored: ", tally_.reason));
    }
    if (tally_.unroutable > 0) {
      return absl::NotFoundError(absl::StrCat(
          Thousands(tally_.unroutable), " messages are unroutable: no queue is bound for them; `trireme binding list ",
          "--exchange '", arguments_.exchange.value_or(""), "'` says what is bound"));
    }
    if (tally_.refused > 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(Thousands(tally_.refused), " messages were refused: ", tally_.reason));
    }
    return status;
  }

  Command& command_;
  const Arguments& arguments_;
  Tally tally_;
  std::unique_ptr<Producer> producer_;
  v1::Message message_;
  uint64_t published_ = 0;
  bool showing_ = false;
  std::chrono::steady_clock::time_point shown_ = std::chrono::steady_clock::now();
};

}  // namespace

void AddPublishCommand(CLI::App& app, Command& command) {
  auto arguments = std::make_shared<Arguments>();
  auto text = std::make_shared<CLI::Option*>(nullptr);
  CLI::App* publish = command.Add(
      &app, "publish", "Publish messages and wait until they are on the disks of a majority",
      "  trireme publish orders 'one message'\n"
      "  trireme publish orders --file picture.png --content-type image/png\n"
      "  seq 1 100000 | trireme publish numbers            # each line is a message\n"
      "  trireme publish orders 'x' --producer shop --first-sequence 7   # may be repeated: stored once\n"
      "  trireme publish orders 'x' --key k1 --header kind=test --count 10 --output json\n"
      "  trireme publish --exchange shop --routing-key order.new --mandatory 'one message'\n",
      [&command, arguments, text] {
        arguments->has_text = (*text)->count() > 0;
        if (arguments->exchange && !arguments->has_text && !arguments->queue.empty()) {
          // With an exchange no queue is named: the one word is the message.
          arguments->text = std::exchange(arguments->queue, "");
          arguments->has_text = true;
        }
        if (arguments->exchange ? !arguments->queue.empty() : arguments->queue.empty()) {
          return command.Usage("say where to publish: a QUEUE, or --exchange NAME, not both");
        }
        if (arguments->mandatory && !arguments->exchange) {
          return command.Usage("--mandatory is for an exchange; name it with --exchange");
        }
        if (arguments->has_text && !arguments->file.empty()) {
          return command.Usage("a message and --file are both given; give one of them");
        }
        if (arguments->has_text && arguments->lines) {
          return command.Usage("a message and --lines are both given; --lines is for a file or standard input");
        }
        if (arguments->first_sequence != 0 && arguments->producer.empty()) {
          return command.Usage("--first-sequence numbers the messages of a producer: name it with --producer");
        }
        return Publishing(command, *arguments).Run();
      });
  publish->add_option("QUEUE", arguments->queue, "The queue; not with --exchange");
  *text = publish->add_option("MESSAGE", arguments->text, "The message's body; without it lines of standard input");
  publish->add_option("--exchange", arguments->exchange, "Publish to an exchange; '' is the default one");
  publish->add_flag("--mandatory", arguments->mandatory, "Fail where no queue is bound for a message");
  publish->add_option("--file", arguments->file, "One message with the file's content; - = standard input");
  publish->add_flag("--lines", arguments->lines, "Each line of the file (or of standard input) is a message");
  publish->add_option("--count", arguments->count, "Publish each message so many times")->check(Positive());
  publish->add_option("--key", arguments->key, "The key for ordering and partitions");
  publish->add_option("--id", arguments->id, "The message's id");
  publish
      ->add_option("--header", arguments->headers, "NAME=TEXT, or NAME:=JSON (a number, true, false); may be repeated")
      ->expected(1)
      ->take_all();
  publish->add_option("--content-type", arguments->content_type, "For example text/plain");
  publish->add_option("--correlation-id", arguments->correlation_id, "The correlation id");
  publish->add_option("--reply-to", arguments->reply_to, "Where an answer goes");
  publish->add_option("--routing-key", arguments->routing_key, "What an exchange routes by");
  publish->add_option("--ttl", arguments->ttl_s, "Seconds from now on after which it is not delivered any more")
      ->check(CLI::Range(0.001, 3.1e9));
  publish->add_option("--priority", arguments->priority, "0 (lowest) to 9")->check(CLI::Range(0, 9));
  publish->add_option(
      "--producer", arguments->producer,
      "The producer's name, at most 255 bytes. Its messages are numbered on from the last one stored, so "
      "that a repeated command stores them again, unless --first-sequence says which they are. Without a "
      "name one is made for this run, which the queue remembers for a while (see docs/semantics.md)");
  publish
      ->add_option("--first-sequence", arguments->first_sequence,
                   "The number of the first message; the others follow. What the queue has stored of --producer under "
                   "a number is not stored again, and counts as confirmed")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 62));
}

}  // namespace trireme::client
