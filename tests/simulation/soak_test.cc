// What `soak` says to whoever runs it: by its exit code what went wrong, and how to see it again.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

struct Ended {
  int code = -1;
  std::string said;
};

Ended Soak(const std::string& arguments) {
  Ended ended;
  FILE* pipe = popen((std::string(SOAK) + " " + arguments + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return ended;
  char buffer[4096];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) ended.said.append(buffer, n);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) ended.code = WEXITSTATUS(status);
  return ended;
}

std::string HashOf(const std::string& said) {
  const std::string before = "trace hash ";
  const size_t at = said.find(before);
  return at == std::string::npos ? "none" : said.substr(at + before.size(), 16);
}

// The arguments of the replay that it names, but for the long text that --trace would print.
std::string ReplayOf(const std::string& said) {
  const std::string before = "replay: tests/simulation/soak ";
  const size_t at = said.find(before);
  if (at == std::string::npos) return "none";
  const size_t begin = at + before.size();
  return said.substr(begin, said.find(" --trace", begin) - begin);
}

TEST(Soak, CleanSeeds) {
  const Ended ended = Soak("--seed 1 --count 3");
  EXPECT_EQ(ended.code, 0) << ended.said;
  EXPECT_NE(ended.said.find("3 seeds clean"), std::string::npos) << ended.said;
}

TEST(Soak, ACrashIs127) {
  const Ended ended = Soak("--what core --seed 1 --count 5 --plant wrong-answer");
  EXPECT_EQ(ended.code, 127) << ended.said;
  EXPECT_NE(ended.said.find("check failed"), std::string::npos) << ended.said;
  EXPECT_EQ(Soak(ReplayOf(ended.said)).code, 127) << ended.said;
}

TEST(Soak, NoProgressIs128) {
  const Ended ended = Soak("--what core --seed 1 --count 5 --plant loses-votes");
  EXPECT_EQ(ended.code, 128) << ended.said;
  EXPECT_EQ(Soak(ReplayOf(ended.said)).code, 128) << ended.said;
}

TEST(Soak, ABrokenPromiseIs129AndReplaysExactly) {
  const Ended ended = Soak("--what core --seed 1 --count 50 --plant sends-before-sync");
  EXPECT_EQ(ended.code, 129) << ended.said;
  EXPECT_NE(ended.said.find("violated: durability"), std::string::npos) << ended.said;
  const Ended again = Soak(ReplayOf(ended.said));
  EXPECT_EQ(again.code, 129) << again.said;
  EXPECT_EQ(HashOf(again.said), HashOf(ended.said)) << ended.said << again.said;
}

}  // namespace
