#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"

namespace trireme::client {
namespace {

constexpr uint32_t kPage = 1'000;

std::string TypeText(v1::ExchangeType type) {
  switch (type) {
    case v1::EXCHANGE_TYPE_DIRECT:
      return "direct";
    case v1::EXCHANGE_TYPE_FANOUT:
      return "fanout";
    case v1::EXCHANGE_TYPE_TOPIC:
      return "topic";
    case v1::EXCHANGE_TYPE_HEADERS:
      return "headers";
    default:
      return "unknown";
  }
}

v1::ExchangeType TypeOf(const std::string& text) {
  for (auto type :
       {v1::EXCHANGE_TYPE_DIRECT, v1::EXCHANGE_TYPE_FANOUT, v1::EXCHANGE_TYPE_TOPIC, v1::EXCHANGE_TYPE_HEADERS}) {
    if (TypeText(type) == text) return type;
  }
  return v1::EXCHANGE_TYPE_UNSPECIFIED;
}

Json ExchangeJson(const v1::ExchangeInfo& exchange) {
  return {{"name", exchange.name()},
          {"id", exchange.id()},
          {"type", TypeText(exchange.settings().type())},
          {"alternate", exchange.settings().alternate()},
          {"bindings", exchange.bindings()},
          {"bindings_to", exchange.bindings_to()},
          {"created_at_ms", exchange.created_at_ms()}};
}

std::string ExchangesTable(const std::vector<v1::ExchangeInfo>& exchanges) {
  Table table({"NAME", "TYPE", "ALTERNATE", "BINDINGS", "CREATED"});
  for (const v1::ExchangeInfo& exchange : exchanges) {
    const std::string& alternate = exchange.settings().alternate();
    table.Add({exchange.name(), TypeText(exchange.settings().type()), alternate.empty() ? "-" : alternate,
               absl::StrCat(exchange.bindings()), TimeText(exchange.created_at_ms())});
  }
  return table.Text();
}

std::string MatchText(const v1::Binding& binding) {
  if (binding.header_match() == v1::HEADER_MATCH_ANY) return "any";
  return binding.headers().empty() ? "" : "all";
}

Json HeadersJson(const v1::Binding& binding) {
  Json headers = Json::object();
  std::vector<std::string> names;
  for (const auto& [name, value] : binding.headers()) names.push_back(name);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) headers[name] = ValueJson(binding.headers().at(name));
  return headers;
}

Json BindingJson(const v1::Binding& binding) {
  Json json = {{"exchange", binding.exchange()}};
  if (binding.has_queue()) json["queue"] = binding.queue();
  if (binding.has_to_exchange()) json["to_exchange"] = binding.to_exchange();
  json["routing_key"] = binding.routing_key();
  if (!MatchText(binding).empty()) {
    json["match"] = MatchText(binding);
    json["headers"] = HeadersJson(binding);
  }
  return json;
}

std::string BindingsTable(const std::vector<v1::Binding>& bindings) {
  Table table({"EXCHANGE", "TO", "NAME", "KEY", "HEADERS"});
  for (const v1::Binding& binding : bindings) {
    std::string headers =
        MatchText(binding).empty() ? "" : absl::StrCat(MatchText(binding), " of ", HeadersJson(binding).dump());
    table.Add({binding.exchange(), binding.has_queue() ? "queue" : "exchange",
               binding.has_queue() ? binding.queue() : binding.to_exchange(), binding.routing_key(), headers});
  }
  return table.Text();
}

void Print(const Json& json) {
  std::printf("%s\n", json.dump(2).c_str());
}

// All pages, at most `limit` bindings.
absl::StatusOr<std::vector<v1::Binding>> Fetch(Client& client, v1::ListBindingsRequest request, uint64_t limit) {
  std::vector<v1::Binding> bindings;
  while (bindings.size() < limit) {
    request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(kPage, limit - bindings.size())));
    absl::StatusOr<v1::ListBindingsResponse> page = client.ListBindings(request);
    if (!page.ok()) return page.status();
    bindings.insert(bindings.end(), page->bindings().begin(), page->bindings().end());
    if (page->next().empty()) break;
    request.set_after(page->next());
  }
  return bindings;
}

struct Arguments {
  std::string name, type, alternate;
  std::string exchange, queue, to_exchange, key, match;
  std::vector<std::string> headers;
  std::string prefix;
  uint64_t limit = 1'000'000;
  bool if_unused = false;
};
using ArgumentsPtr = std::shared_ptr<const Arguments>;

// ---------------------------------------------------------------- exchanges

int CreateExchange(Command& command, const ArgumentsPtr& arguments) {
  v1::CreateExchangeRequest request;
  request.set_name(arguments->name);
  request.mutable_settings()->set_type(TypeOf(arguments->type));
  request.mutable_settings()->set_alternate(arguments->alternate);
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::CreateExchangeResponse> response = client->CreateExchange(request);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    Json json = ExchangeJson(response->exchange());
    json["created"] = response->created();
    json["metadata_index"] = response->metadata_index();
    Print(json);
  } else {
    std::printf("%s %s, type %s\n", response->exchange().name().c_str(),
                response->created() ? "created" : "was there already",
                TypeText(response->exchange().settings().type()).c_str());
  }
  return kExitOk;
}

int ListExchanges(Command& command, const ArgumentsPtr& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  std::vector<v1::ExchangeInfo> exchanges;
  v1::ListExchangesRequest request;
  request.set_prefix(arguments->prefix);
  while (exchanges.size() < arguments->limit) {
    request.set_limit(static_cast<uint32_t>(std::min<uint64_t>(kPage, arguments->limit - exchanges.size())));
    absl::StatusOr<v1::ListExchangesResponse> page = client->ListExchanges(request);
    if (!page.ok()) return command.Fail(page.status());
    exchanges.insert(exchanges.end(), page->exchanges().begin(), page->exchanges().end());
    if (!page->more() || page->exchanges().empty()) break;
    request.set_after(exchanges.back().name());
  }
  if (command.json()) {
    Json list = Json::array();
    for (const v1::ExchangeInfo& exchange : exchanges) list.push_back(ExchangeJson(exchange));
    Print(list);
  } else {
    std::printf("%s", ExchangesTable(exchanges).c_str());
  }
  return kExitOk;
}

int DescribeExchange(Command& command, const ArgumentsPtr& arguments) {
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DescribeExchangeResponse> response = client->DescribeExchange(arguments->name);
  if (!response.ok()) return command.Fail(response.status());
  v1::ListBindingsRequest from, to;
  from.set_exchange(arguments->name);
  to.set_to_exchange(arguments->name);
  absl::StatusOr<std::vector<v1::Binding>> leaving = Fetch(*client, from, arguments->limit);
  if (!leaving.ok()) return command.Fail(leaving.status());
  absl::StatusOr<std::vector<v1::Binding>> coming = Fetch(*client, to, arguments->limit);
  if (!coming.ok()) return command.Fail(coming.status());
  if (command.json()) {
    Json json = ExchangeJson(response->exchange());
    json["from_here"] = Json::array();
    json["to_here"] = Json::array();
    for (const v1::Binding& binding : *leaving) json["from_here"].push_back(BindingJson(binding));
    for (const v1::Binding& binding : *coming) json["to_here"].push_back(BindingJson(binding));
    Print(json);
    return kExitOk;
  }
  std::printf("%s", ExchangesTable({response->exchange()}).c_str());
  if (!leaving->empty()) std::printf("\n%s", BindingsTable(*leaving).c_str());
  if (!coming->empty()) std::printf("\n%s", BindingsTable(*coming).c_str());
  return kExitOk;
}

int DeleteExchange(Command& command, const ArgumentsPtr& arguments) {
  v1::DeleteExchangeRequest request;
  request.set_name(arguments->name);
  request.set_if_unused(arguments->if_unused);
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<v1::DeleteExchangeResponse> response = client->DeleteExchange(request);
  if (!response.ok()) return command.Fail(response.status());
  if (command.json()) {
    Print({{"deleted", arguments->name}, {"bindings", response->bindings()}});
  } else {
    std::printf("%s deleted, and %u bindings with it\n", arguments->name.c_str(), response->bindings());
  }
  return kExitOk;
}

// ---------------------------------------------------------------- bindings

absl::StatusOr<v1::Binding> BindingOf(const Arguments& arguments) {
  v1::Binding binding;
  binding.set_exchange(arguments.exchange);
  if (!arguments.queue.empty()) binding.set_queue(arguments.queue);
  if (!arguments.to_exchange.empty()) binding.set_to_exchange(arguments.to_exchange);
  binding.set_routing_key(arguments.key);
  if (arguments.match == "any") binding.set_header_match(v1::HEADER_MATCH_ANY);
  if (arguments.match == "all") binding.set_header_match(v1::HEADER_MATCH_ALL);
  for (const std::string& header : arguments.headers) {
    absl::StatusOr<Header> parsed = ParseHeader(header);
    if (!parsed.ok()) return parsed.status();
    (*binding.mutable_headers())[parsed->name] = parsed->value;
  }
  return binding;
}

int ChangeBinding(Command& command, const ArgumentsPtr& arguments, bool create) {
  absl::StatusOr<v1::Binding> binding = BindingOf(*arguments);
  if (!binding.ok()) return command.Usage(std::string(binding.status().message()));
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  Json json = BindingJson(*binding);
  const char* became = "deleted";
  if (create) {
    absl::StatusOr<v1::CreateBindingResponse> response = client->CreateBinding(*binding);
    if (!response.ok()) return command.Fail(response.status());
    became = response->created() ? "created" : "was there already";
    json["created"] = response->created();
    json["metadata_index"] = response->metadata_index();
  } else {
    absl::StatusOr<v1::DeleteBindingResponse> response = client->DeleteBinding(*binding);
    if (!response.ok()) return command.Fail(response.status());
    json["deleted"] = true;
    json["metadata_index"] = response->metadata_index();
  }
  if (command.json()) {
    Print(json);
  } else {
    std::printf("binding from %s to %s %s %s\n", binding->exchange().c_str(),
                binding->has_queue() ? "queue" : "exchange",
                (binding->has_queue() ? binding->queue() : binding->to_exchange()).c_str(), became);
  }
  return kExitOk;
}

int ListBindings(Command& command, const ArgumentsPtr& arguments) {
  v1::ListBindingsRequest request;
  request.set_exchange(arguments->exchange);
  request.set_queue(arguments->queue);
  request.set_to_exchange(arguments->to_exchange);
  Client* client = command.Connect();
  if (client == nullptr) return command.exit_code();
  absl::StatusOr<std::vector<v1::Binding>> bindings = Fetch(*client, std::move(request), arguments->limit);
  if (!bindings.ok()) return command.Fail(bindings.status());
  if (command.json()) {
    Json list = Json::array();
    for (const v1::Binding& binding : *bindings) list.push_back(BindingJson(binding));
    Print(list);
  } else {
    std::printf("%s", BindingsTable(*bindings).c_str());
  }
  return kExitOk;
}

void AddBindingOptions(CLI::App* app, const std::shared_ptr<Arguments>& arguments) {
  app->add_option("EXCHANGE", arguments->exchange, "Where it starts")->required();
  CLI::Option_group* to = app->add_option_group("destination");
  to->add_option("--queue", arguments->queue, "The queue that it leads to");
  to->add_option("--to-exchange", arguments->to_exchange, "The exchange that it leads to");
  to->require_option(1);
  app->add_option("--key", arguments->key, "The routing key; at a topic exchange a pattern with * and #");
  app->add_option("--match", arguments->match, "At a headers exchange: all of the headers, or any")
      ->check(CLI::IsMember({"all", "any"}));
  app->add_option("--header", arguments->headers,
                  "NAME=TEXT, NAME:=JSON (a number, true, false), or NAME alone: it is there; may be repeated")
      ->allow_extra_args(false);
}

}  // namespace

void AddExchangeCommands(CLI::App& app, Command& command) {
  CLI::App* exchange = command.AddGroup(app, "exchange", "Create, list, describe and delete exchanges");
  auto arguments = std::make_shared<Arguments>();

  CLI::App* create =
      command.Add(exchange, "create", "Create an exchange; one that is there with the same settings is left as it is",
                  "  trireme exchange create events --type topic\n"
                  "  trireme exchange create orders --type direct --alternate unrouted\n",
                  [&command, arguments] { return CreateExchange(command, arguments); });
  create->add_option("NAME", arguments->name, "1 to 255 letters, digits and . _ - : /")->required();
  create->add_option("--type", arguments->type, "direct, fanout, topic or headers; it does not change")
      ->required()
      ->check(CLI::IsMember({"direct", "fanout", "topic", "headers"}));
  create->add_option("--alternate", arguments->alternate, "An exchange for what no binding of this one matches");

  CLI::App* list = command.Add(exchange, "list", "List exchanges by name",
                               "  trireme exchange list\n"
                               "  trireme exchange list --prefix events --output json\n",
                               [&command, arguments] { return ListExchanges(command, arguments); });
  list->add_option("--prefix", arguments->prefix, "Only names that start with it");
  list->add_option("--limit", arguments->limit, "At most so many")->check(Positive())->capture_default_str();

  CLI::App* describe = command.Add(exchange, "describe", "Print an exchange with the bindings from it and to it",
                                   "  trireme exchange describe events\n",
                                   [&command, arguments] { return DescribeExchange(command, arguments); });
  describe->add_option("NAME", arguments->name, "The exchange")->required();

  CLI::App* remove = command.Add(exchange, "delete", "Delete an exchange, and every binding from it and to it",
                                 "  trireme exchange delete events\n"
                                 "  trireme exchange delete events --if-unused\n",
                                 [&command, arguments] { return DeleteExchange(command, arguments); });
  remove->add_option("NAME", arguments->name, "The exchange")->required();
  remove->add_flag("--if-unused", arguments->if_unused, "Only if it has no bindings");
}

void AddBindingCommands(CLI::App& app, Command& command) {
  CLI::App* binding = command.AddGroup(app, "binding", "Create, list and delete bindings of exchanges");
  auto arguments = std::make_shared<Arguments>();

  AddBindingOptions(
      command.Add(binding, "create", "Bind an exchange to a queue or to another exchange",
                  "  trireme binding create events --queue orders --key 'order.*'\n"
                  "  trireme binding create events --to-exchange audit --key '#'\n"
                  "  trireme binding create routed --queue eu --match all --header region=eu --header size:=3\n",
                  [&command, arguments] { return ChangeBinding(command, arguments, /*create=*/true); }),
      arguments);
  AddBindingOptions(command.Add(binding, "delete", "Delete the binding that is equal in all parts",
                                "  trireme binding delete events --queue orders --key 'order.*'\n",
                                [&command, arguments] { return ChangeBinding(command, arguments, /*create=*/false); }),
                    arguments);

  CLI::App* list = command.Add(binding, "list", "List bindings",
                               "  trireme binding list\n"
                               "  trireme binding list --exchange events --output json\n"
                               "  trireme binding list --queue orders\n",
                               [&command, arguments] { return ListBindings(command, arguments); });
  list->add_option("--exchange", arguments->exchange, "Only those from this exchange");
  list->add_option("--queue", arguments->queue, "Only those to this queue");
  list->add_option("--to-exchange", arguments->to_exchange, "Only those to this exchange");
  list->add_option("--limit", arguments->limit, "At most so many")->check(Positive())->capture_default_str();
}

}  // namespace trireme::client
