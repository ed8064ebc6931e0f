#include "broker/routing/topic_trie.h"

#include <utility>

namespace trireme::broker {
namespace {

// Calls visit(word) for each word.
template <typename Visit>
void ForEachWord(std::string_view key, Visit visit) {
  if (key.empty()) return;
  while (true) {
    const size_t dot = key.find('.');
    visit(key.substr(0, dot));
    if (dot == std::string_view::npos) return;
    key.remove_prefix(dot + 1);
  }
}

}  // namespace

uint32_t TopicTrie::NumberOf(std::string_view word) const {
  auto found = words_.find(word);
  return found == words_.end() ? kNone : found->second.number;
}

uint32_t TopicTrie::ChildOf(uint32_t node, uint32_t word) const {
  if (word == kOne) return nodes_[node].one;
  if (word == kAny) return nodes_[node].any;
  auto found = edges_.find(Edge(node, word));
  return found == edges_.end() ? 0 : found->second;
}

uint32_t TopicTrie::MakeChild(uint32_t node, std::string_view spelled) {
  uint32_t word = spelled == "*" ? kOne : spelled == "#" ? kAny : NumberOf(spelled);
  if (word != kNone) {
    if (const uint32_t child = ChildOf(node, word); child != 0) return child;
  }
  if (word == kNone) {
    if (free_words_.empty()) {
      word = kFirstWord + static_cast<uint32_t>(spelled_.size());
      spelled_.emplace_back();
    } else {
      word = free_words_.back();
      free_words_.pop_back();
    }
    spelled_[word - kFirstWord] = spelled;
    words_.emplace(spelled, Word{word, 0});
  }
  uint32_t child;
  if (free_.empty()) {
    child = static_cast<uint32_t>(nodes_.size());
    nodes_.emplace_back();
  } else {
    child = free_.back();
    free_.pop_back();
    nodes_[child] = {};
  }
  nodes_[child].parent = node;
  nodes_[child].word = word;
  ++nodes_[node].children;
  if (word == kOne) {
    nodes_[node].one = child;
  } else if (word == kAny) {
    nodes_[node].any = child;
  } else {
    edges_[Edge(node, word)] = child;
    ++words_.find(spelled)->second.nodes;
  }
  return child;
}

void TopicTrie::Prune(uint32_t node) {
  while (node != kRoot && nodes_[node].children == 0 && nodes_[node].targets.empty()) {
    const auto [parent, word] = std::pair(nodes_[node].parent, nodes_[node].word);
    if (word == kOne) {
      nodes_[parent].one = 0;
    } else if (word == kAny) {
      nodes_[parent].any = 0;
    } else {
      edges_.erase(Edge(parent, word));
      auto used = words_.find(spelled_[word - kFirstWord]);
      if (--used->second.nodes == 0) {
        words_.erase(used);
        spelled_[word - kFirstWord].clear();
        free_words_.push_back(word);
      }
    }
    --nodes_[parent].children;
    free_.push_back(node);
    node = parent;
  }
}

void TopicTrie::Add(std::string_view pattern, Target* target) {
  uint32_t node = kRoot;
  ForEachWord(pattern, [&](std::string_view word) { node = MakeChild(node, word); });
  nodes_[node].targets.Add(target);
}

bool TopicTrie::Remove(std::string_view pattern, Target* target) {
  uint32_t node = kRoot;
  bool there = true;
  ForEachWord(pattern, [&](std::string_view word) {
    if (!there) return;
    const uint32_t number = word == "*" ? kOne : word == "#" ? kAny : NumberOf(word);
    node = number == kNone ? 0 : ChildOf(node, number);
    there = node != 0;
  });
  if (!there || !nodes_[node].targets.Remove(target)) return false;
  Prune(node);
  return true;
}

void TopicTrie::Reach(uint32_t node) {
  // `#` stands for no word, too.
  do {
    Node& n = nodes_[node];
    if (n.reached == step_) return;
    n.reached = step_;
    reached_.push_back(node);
    node = n.any;
  } while (node != 0);
}

void TopicTrie::Walk(std::string_view key) {
  ++step_;
  reached_.clear();
  Reach(kRoot);
  ForEachWord(key, [this](std::string_view spelled) {
    const uint32_t word = NumberOf(spelled);
    ++step_;
    std::swap(reached_, before_);
    reached_.clear();
    for (uint32_t node : before_) {
      const Node& n = nodes_[node];
      if (word != kNone) {
        if (auto child = edges_.find(Edge(node, word)); child != edges_.end()) Reach(child->second);
      }
      if (n.one != 0) Reach(n.one);
      if (n.word == kAny) Reach(node);
    }
  });
}

}  // namespace trireme::broker
