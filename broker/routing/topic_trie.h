// The bindings of a topic exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "broker/routing/by_name.h"
#include "broker/routing/target.h"

namespace trireme::broker {

// Patterns are words separated by dots; `*` stands for one word and `#` for any number of them, none included. A key is
// words as well, in which those two are words like others; the empty key has no words, and "a..b" has three.
//
// Matching follows all patterns at once, word by word: the cost of a word is the number of trie nodes that the key's
// words so far lead to, each of which is looked at once, however many ways there are to reach it. So no pattern and no
// key makes it exponential.
class TopicTrie {
 public:
  TopicTrie() : nodes_(1) {}

  void Add(std::string_view pattern, Target* target);
  // Whether it was there.
  bool Remove(std::string_view pattern, Target* target);

  // Calls visit(Target*) for each pattern that matches, a target perhaps several times; in an order that depends on the
  // patterns and the key only.
  template <typename Visit>
  void Match(std::string_view key, Visit visit) {
    Walk(key);
    for (uint32_t node : reached_) nodes_[node].targets.ForEach(visit);
  }

  // For tests: what was added and removed again leaves nothing behind.
  size_t nodes() const { return nodes_.size() - free_.size(); }
  size_t words() const { return words_.size(); }

 private:
  // Numbers of words: 0 is none, the two that stand for others come first.
  static constexpr uint32_t kNone = 0, kOne = 1, kAny = 2, kFirstWord = 3;
  static constexpr uint32_t kRoot = 0;

  struct Node {
    uint32_t parent = 0;
    uint32_t word = kNone;  // that leads here from the parent
    uint32_t one = 0;       // the child for `*`, and the one for `#`; 0 = none
    uint32_t any = 0;
    uint32_t children = 0;
    uint64_t reached = 0;  // the last step that came here
    TargetSet targets = {};
  };
  struct Word {
    uint32_t number;
    uint32_t nodes;  // that use it
  };

  // Leaves in reached_ the nodes at which the key ends.
  void Walk(std::string_view key);
  void Reach(uint32_t node);
  uint32_t ChildOf(uint32_t node, uint32_t word) const;
  uint32_t MakeChild(uint32_t node, std::string_view word);
  void Prune(uint32_t node);
  uint32_t NumberOf(std::string_view word) const;

  static uint64_t Edge(uint32_t node, uint32_t word) { return uint64_t{node} << 32 | word; }

  std::vector<Node> nodes_;
  std::vector<uint32_t> free_;
  absl::flat_hash_map<uint64_t, uint32_t> edges_;  // by Edge; `*` and `#` are in the nodes
  ByName<Word> words_;
  std::vector<std::string> spelled_;  // by number, so that a word that nothing uses any more is found
  std::vector<uint32_t> free_words_;

  // Of the walk under way.
  uint64_t step_ = 0;
  std::vector<uint32_t> reached_, before_;
};

}  // namespace trireme::broker
