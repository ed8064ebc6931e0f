#include "broker/routing/topic_trie.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace trireme::broker {
namespace {

bool Matches(const std::string& pattern, const std::string& key) {
  TopicTrie trie;
  Target target{.name = "t"};
  trie.Add(pattern, &target);
  bool matched = false;
  trie.Match(key, [&](Target* t) { matched |= t == &target; });
  return matched;
}

TEST(TopicTrie, WordsAndWhatStandsForThem) {
  EXPECT_TRUE(Matches("stock.usd.nyse", "stock.usd.nyse"));
  EXPECT_FALSE(Matches("stock.usd.nyse", "stock.usd"));
  EXPECT_FALSE(Matches("stock.usd", "stock.usd.nyse"));
  EXPECT_TRUE(Matches("*.orange.*", "quick.orange.rabbit"));
  EXPECT_FALSE(Matches("*.orange.*", "orange.male.rabbit"));
  EXPECT_FALSE(Matches("*.orange.*", "quick.orange.new.rabbit"));
  EXPECT_FALSE(Matches("*", ""));
  EXPECT_FALSE(Matches("*", "a.b"));
  EXPECT_TRUE(Matches("lazy.#", "lazy.brown.fox"));
  EXPECT_TRUE(Matches("lazy.#", "lazy"));
  EXPECT_FALSE(Matches("lazy.#", "lazybones"));
  EXPECT_TRUE(Matches("#", ""));
  EXPECT_TRUE(Matches("#", "a.b.c"));
  EXPECT_TRUE(Matches("#.b.#", "b"));
  EXPECT_TRUE(Matches("#.b.#.b", "a.b.b"));
  EXPECT_FALSE(Matches("#.b.#.b", "a.b.c"));
  EXPECT_TRUE(Matches("#.#", ""));
  EXPECT_TRUE(Matches("#.*", "a"));
  EXPECT_FALSE(Matches("#.*", ""));
  EXPECT_TRUE(Matches("*.#", "a.b.c"));
  EXPECT_TRUE(Matches("a.*.#.*", "a.b.c"));
  EXPECT_FALSE(Matches("a.*.#.*", "a.b"));
}

TEST(TopicTrie, TheEmptyWordIsAWordButTheEmptyKeyHasNone) {
  EXPECT_TRUE(Matches("", ""));
  EXPECT_FALSE(Matches("", "a"));
  EXPECT_FALSE(Matches("", "."));
  EXPECT_TRUE(Matches("a..b", "a..b"));
  EXPECT_TRUE(Matches("a.*.b", "a..b"));
  EXPECT_TRUE(Matches("*.*", "."));
  EXPECT_FALSE(Matches("*", "."));
}

TEST(TopicTrie, InAKeyTheStandInsAreWordsLikeOthers) {
  EXPECT_TRUE(Matches("*", "*"));
  EXPECT_TRUE(Matches("*", "#"));
  EXPECT_FALSE(Matches("a", "*"));
  EXPECT_FALSE(Matches("a.b", "a.#"));
  EXPECT_FALSE(Matches("a*", "ab")) << "only a whole word stands for others";
  EXPECT_TRUE(Matches("a*", "a*"));
}

// Each of these patterns can match the key in very many ways: a matcher that tried them one by one would not end.
TEST(TopicTrie, ManyWaysToMatchCostNoMoreThanOne) {
  std::string pattern = "#", key = "a";
  for (int i = 0; i < 60; ++i) {
    pattern += ".a.#";
    key += ".a";
  }
  EXPECT_TRUE(Matches(pattern, key));
  EXPECT_FALSE(Matches(pattern + ".b", key));
}

TEST(TopicTrie, RemovingLeavesNothingBehind) {
  TopicTrie trie;
  Target a{.name = "a"}, b{.name = "b"};
  const size_t nodes = trie.nodes();
  for (int round = 0; round < 3; ++round) {
    for (const char* pattern : {"x.y.z", "x.y", "x.*.#", "#", "", "x.y.z"}) trie.Add(pattern, &a);
    trie.Add("x.y.z", &b);
    EXPECT_FALSE(trie.Remove("x.y.w", &a)) << "an unknown word";
    EXPECT_FALSE(trie.Remove("x", &a)) << "on the way, but no pattern";
    EXPECT_FALSE(trie.Remove("x.y", &b)) << "another's";
    EXPECT_FALSE(trie.Remove("y.x", &a)) << "known words, unknown order";
    EXPECT_EQ(trie.nodes(), nodes + 6);
    for (const char* pattern : {"x.y.z", "#", "x.*.#", "x.y", ""}) EXPECT_TRUE(trie.Remove(pattern, &a)) << pattern;
    std::multiset<std::string> reached;
    trie.Match("x.y.z", [&](Target* t) { reached.insert(t->name); });
    EXPECT_EQ(reached, (std::multiset<std::string>{"a", "b"})) << "it was bound twice, and removed once";
    EXPECT_TRUE(trie.Remove("x.y.z", &a));
    EXPECT_FALSE(trie.Remove("x.y.z", &a));
    EXPECT_TRUE(trie.Remove("x.y.z", &b));
    EXPECT_EQ(trie.nodes(), nodes);
    EXPECT_EQ(trie.words(), 0u);
  }
}

}  // namespace
}  // namespace trireme::broker
