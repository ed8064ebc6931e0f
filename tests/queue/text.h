// Facts, what came of them, and the state, as text.
//
//   open p epoch=1                          forget p epoch=1 last=3
//   attach a epoch=1 [consumer= timeout=]   detach a epoch=1
//   checkout a@1|until=MS from=1:0 to=2:0 [waiting=1:0+3,... returned=...]
//   settle ack|requeue|reject TOKEN... [due=MS,...]   bury deliveries=N returned=...   extend until=MS TOKEN... expire
//   now=MS TOKEN... purge                                   raise VERSION create NAME [from=1:0 ordinal=N] [filter=]
//   change [filter=]        delete skip COUNT from=1:0 to=2:0 [returned=...]
//   limits [messages=N bytes=N size=N ttl=MS]   unseen [from= to=] waiting=... sizes=... [target=]
//
// From version 6 of the facts on `checkout` says what each message of a run counts for (sizes=3,...), `skip` and
// `create` their bytes=.
//
// Those about a subscription other than `default` say subscription=ID.
//
// "1:0+3" are three slots from position 1:0 on; "1:0+3@4" is a token: these slots as checked out by the entry 4.
#pragma once

#include <string>

#include "broker/queue/effects.h"
#include "broker/queue/facts.h"
#include "broker/queue/machine.h"
#include "broker/queue/producer_window.h"
#include "tests/script/words.h"

namespace trireme::queue {

Slots ParseSlots(const std::string& text);
Token ParseToken(const std::string& text);
// A checkout without from= begins at `cursor`; without to= it ends with the last waiting run that it names.
Fact ParseFact(const script::Words& words, Position cursor = {});

std::string Describe(const Slots& slots);
std::string Describe(const Fact& fact);
// "1-3 stored at 2:0, 4 new"
std::string Describe(const std::vector<ProducerWindow::Piece>& pieces);
std::string Describe(const Effect& effect);
// The whole state, a line for each thing that it holds.
std::string Describe(const Machine& machine);

}  // namespace trireme::queue
