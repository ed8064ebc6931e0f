// A queue machine driven by text: each command is an entry of its log, and what came of its facts is the output.
// README.md has the commands.
#pragma once

#include <deque>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "broker/queue/machine.h"
#include "tests/script/scenario_files.h"
#include "tests/script/words.h"

namespace trireme::queue {

class Scenario final : public script::Interpreter {
 public:
  std::string Do(const std::string& command) override;
  bool violated() const override { return violated_; }

 private:
  void Dispatch(const script::Words& words);
  std::string Resolve(const std::string& word) const;
  void Publish(const script::Words& words);
  void ApplyFacts(const script::Words& words);
  void ApplyEntry(const raft::Bytes& entry);
  void Judge(const script::Words& words);
  void Violated(const std::string& what);

  Machine machine_;
  // Restored from the snapshot after each entry so far, and given every later one: their bytes must stay equal.
  std::deque<Machine> followers_;
  std::map<std::string, uint64_t> names_;  // of entries
  int64_t time_ms_ = 0;
  std::ostringstream out_;
  bool violated_ = false;
};

}  // namespace trireme::queue
