// Scenarios as text: files of commands and, behind "----", everything that came of them.
#pragma once

#include <string>
#include <vector>

namespace trireme::script {

// What runs the commands; one for each file.
class Interpreter {
 public:
  virtual ~Interpreter() = default;
  // Runs one command and returns what happened, a line each. A violated invariant ends the output with a line that
  // begins with "VIOLATED".
  virtual std::string Do(const std::string& command) = 0;
  virtual bool violated() const = 0;
};

// A file is comments ("#"), and blocks of commands, "----", and their output up to an empty line. Returns the file with
// the output as it is now.
std::string Replay(const std::string& text, Interpreter& interpreter);

// The .txt files of a folder (below the working directory), without their ending.
std::vector<std::string> ScenariosIn(const std::string& folder);

// Expects that the file goes as it is written. With TRIREME_UPDATE=1 it is rewritten with what happened, for you to
// read and commit.
void GoesAsWritten(const std::string& folder, const std::string& name, Interpreter& interpreter);

}  // namespace trireme::script
