// The transport over real gRPC: three nodes of two shards each in one process, on ports that the kernel picks.
#include "raft/grpc/transport.h"

#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "raft/grpc/peer_service.h"

namespace trireme::raft {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kShards = 2;
constexpr std::chrono::seconds kPatience{20};

// What the test waits on: any change wakes it.
class Board {
 public:
  template <typename F>
  void Change(F f) {
    std::lock_guard lock(mutex_);
    f();
    changed_.notify_all();
  }
  template <typename F>
  bool Await(F condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, condition);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

// All nodes' addresses, as they become known.
class Directory final : public PeerDirectory {
 public:
  std::optional<PeerRecord> Find(NodeId node) const override {
    std::lock_guard lock(mutex_);
    auto found = nodes_.find(node);
    if (found == nodes_.end()) return std::nullopt;
    return found->second;
  }
  void Set(NodeId node, PeerRecord record) {
    std::lock_guard lock(mutex_);
    nodes_[node] = std::move(record);
  }

 private:
  mutable std::mutex mutex_;
  std::map<NodeId, PeerRecord> nodes_;
};

std::string DirectoryId(uint64_t node) {
  return std::string(16, static_cast<char>('a' + node));
}

struct Got {
  NodeId from;
  ShardId shard;
  Frame frame;
};

// One node's process, in little.
class Node {
 public:
  Node(
      uint64_t id, Board* board, Directory* directory, int port = 0,
      std::function<void(TransportOptions*)> change = [](TransportOptions*) {})
      : board_(board), peers_(&service_, directory) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(), &port_);
    service_.Register(&builder);
    ConfigurePeerServer(&builder);
    TransportOptions options;
    options.self = NodeIdentity{std::string(16, 'C'), NodeId(id), DirectoryId(id), 1, kShards};
    options.credentials = grpc::InsecureChannelCredentials();
    options.seed = id;
    change(&options);
    std::vector<GrpcTransport*> transports;
    for (ShardId i = 0; i < kShards; ++i) {
      shards_.push_back(std::make_unique<CompletionQueueShard>(i, builder.AddCompletionQueue()));
      transports_.push_back(std::make_unique<GrpcTransport>(options, shards_[i].get(), directory));
      transports.push_back(transports_[i].get());
      transports_[i]->SetReceiver({[this, i](NodeId from, Frame frame) {
                                     board_->Change([&] { got.push_back({from, i, std::move(frame)}); });
                                   },
                                   [this, i](NodeId node) { board_->Change([&] {
                                                              ++ups[{node, i}];
                                                            }); },
                                   [this, i](NodeId node) { board_->Change([&] {
                                                              ++downs[{node, i}];
                                                            }); }});
    }
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return;
    peers_.Open(options.self, transports);
    for (auto& shard : shards_) {
      shard->Start();
      service_.Listen(shard.get());
    }
    directory->Set(NodeId(id), PeerRecord{"127.0.0.1:" + std::to_string(port_), DirectoryId(id)});
  }
  ~Node() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    for (auto& shard : shards_) shard->Stop();
  }

  bool ok() const { return server_ != nullptr; }
  int port() const { return port_; }
  uint64_t refused() const { return peers_.refused(); }
  template <typename F>
  void On(ShardId shard, F f) {
    shards_[shard]->Post([this, shard, f] { f(*transports_[shard]); });
  }
  void Send(ShardId shard, uint64_t to, Frame frame) {
    On(shard, [to, frame](GrpcTransport& t) { t.Send(NodeId(to), frame); });
  }
  void Connect(uint64_t to) {
    for (ShardId i = 0; i < kShards; ++i) On(i, [to](GrpcTransport& t) { t.Connect(NodeId(to)); });
  }

  // Under the board's lock.
  std::vector<Got> got;
  std::map<std::pair<NodeId, ShardId>, int> ups, downs;

 private:
  Board* const board_;
  RawService service_;
  PeerService peers_;
  std::vector<std::unique_ptr<CompletionQueueShard>> shards_;
  std::vector<std::unique_ptr<GrpcTransport>> transports_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

Frame Appends(uint64_t group, int count, size_t bytes) {
  Frame frame{.wall_ms = 1, .incarnation = 1};
  for (int i = 0; i < count; ++i) {
    GroupMessage m{GroupId(group), {}};
    m.message.type = MessageType::kAppend;
    m.message.log_index = Index(static_cast<uint64_t>(i));
    m.message.entries.push_back(
        {Term(1), Index(static_cast<uint64_t>(i) + 1), EntryType::kCommand, Bytes::Take(std::string(bytes, 'x'))});
    frame.messages.push_back(std::move(m));
  }
  return frame;
}

Frame Heartbeat() {
  Frame frame{.wall_ms = 1, .incarnation = 1};
  frame.messages.push_back({GroupId(1), {}});
  return frame;
}

class TransportTest : public testing::Test {
 protected:
  Node& Start(uint64_t id, int port = 0) {
    nodes_[id] = std::make_unique<Node>(id, &board_, &directory_, port);
    return *nodes_[id];
  }
  // Every shard of `a` is connected to `b`, for the n-th time.
  bool AwaitUp(Node& a, uint64_t b, int n = 1) {
    return board_.Await([&] {
      for (ShardId i = 0; i < kShards; ++i) {
        if (a.ups[{NodeId(b), i}] < n) return false;
      }
      return true;
    });
  }

  Board board_;
  Directory directory_;
  std::map<uint64_t, std::unique_ptr<Node>> nodes_;
};

TEST_F(TransportTest, FramesReachTheirShardWholeAndInOrder) {
  for (uint64_t id : {1, 2, 3}) Start(id);
  for (uint64_t from : {1, 2, 3}) {
    for (uint64_t to : {1, 2, 3}) {
      if (from != to) nodes_[from]->Connect(to);
    }
  }
  for (uint64_t from : {1, 2, 3}) {
    for (uint64_t to : {1, 2, 3}) {
      ASSERT_TRUE(from == to || AwaitUp(*nodes_[from], to)) << from << " to " << to;
    }
  }
  constexpr int kFrames = 50;
  for (int i = 0; i < kFrames; ++i) {
    for (ShardId shard = 0; shard < kShards; ++shard) {
      nodes_[1]->Send(shard, 2, Appends(static_cast<uint64_t>(i), 3, 30'000));
      nodes_[3]->Send(shard, 2, Heartbeat());
    }
  }
  Node& two = *nodes_[2];
  EXPECT_TRUE(board_.Await([&] { return two.got.size() == 2 * 2 * kFrames; })) << two.got.size();
  board_.Change([&] {
    std::map<ShardId, uint64_t> next;
    for (const Got& got : two.got) {
      if (got.from != NodeId(1)) continue;
      ASSERT_EQ(got.frame.messages.size(), 3u);
      EXPECT_EQ(got.frame.messages[0].group.value(), next[got.shard]++);
      EXPECT_EQ(got.frame.messages[2].message.entries[0].data.size(), 30'000u);
    }
    EXPECT_EQ(next[0], static_cast<uint64_t>(kFrames));
    EXPECT_EQ(next[1], static_cast<uint64_t>(kFrames));
  });
}

TEST_F(TransportTest, ANodeThatDiesIsDownAtOnceAndFoundAgain) {
  Node& one = Start(1);
  Start(2);
  one.Connect(2);
  ASSERT_TRUE(AwaitUp(one, 2));
  int port = nodes_[2]->port();
  for (int round = 1; round <= 3; ++round) {
    auto before = std::chrono::steady_clock::now();
    nodes_.erase(2);
    ASSERT_TRUE(board_.Await([&] { return one.downs[{NodeId(2), 0}] == round && one.downs[{NodeId(2), 1}] == round; }));
    // Far below any time-out: it is the closed connection that tells.
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
    one.Send(0, 2, Heartbeat());  // goes nowhere
    Start(2, port);
    ASSERT_TRUE(nodes_[2]->ok()) << "port " << port << " was taken by another process meanwhile";
    ASSERT_TRUE(AwaitUp(one, 2, round + 1));
    one.Send(1, 2, Heartbeat());
    ASSERT_TRUE(board_.Await([&] { return !nodes_[2]->got.empty(); }));
  }
}

TEST_F(TransportTest, ARestartedNodeIsDialedAsSoonAsItCalls) {
  Node& one = Start(1);
  // Not there yet: node 1 tries, ever less often.
  directory_.Set(NodeId(2), PeerRecord{"127.0.0.1:1", DirectoryId(2)});
  one.Connect(2);
  Node& two = Start(2);
  two.Connect(1);
  ASSERT_TRUE(AwaitUp(two, 1));
  EXPECT_TRUE(AwaitUp(one, 2));
}

TEST_F(TransportTest, WrongIdentitiesAreRefused) {
  Node& one = Start(1);
  directory_.Set(NodeId(2), PeerRecord{"127.0.0.1:1", DirectoryId(2)});
  struct Case {
    const char* what;
    std::function<void(TransportOptions*)> change;
  };
  const Case cases[] = {
      {"another cluster", [](TransportOptions* o) { o->self.cluster_id = std::string(16, 'D'); }},
      {"another data directory", [](TransportOptions* o) { o->self.directory_id = std::string(16, 'Z'); }},
      {"an unknown node", [](TransportOptions* o) { o->self.node = NodeId(7); }},
      {"this node itself", [](TransportOptions* o) { o->self.node = NodeId(1); }},
      {"one shard less",
       [](TransportOptions* o) {
         o->self.incarnation = 0;
         o->self.shards = 3;
       }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const uint64_t refused = one.refused();
    TransportOptions options;
    options.self = NodeIdentity{std::string(16, 'C'), NodeId(2), DirectoryId(2), 1, kShards};
    options.credentials = grpc::InsecureChannelCredentials();
    c.change(&options);
    CompletionQueueShard shard(0);
    GrpcTransport transport(options, &shard, &directory_);
    int ups = 0;
    uint64_t failures = 0;
    transport.SetReceiver({nullptr, [&](NodeId) { board_.Change([&] { ++ups; }); }, nullptr});
    shard.Start();
    shard.Post([&] { transport.Send(NodeId(1), Heartbeat()); });
    std::function<void()> look = [&] {
      board_.Change([&] { failures = transport.figures().failures; });
      shard.After(milliseconds(5), [&] { look(); });
    };
    shard.Post([&] { look(); });
    EXPECT_TRUE(board_.Await([&] { return failures >= 2 || ups > 0; }));
    shard.Stop();
    EXPECT_EQ(ups, 0);
    EXPECT_GE(one.refused(), refused + 2);
    board_.Change([&] { EXPECT_TRUE(one.got.empty()); });
  }
}

TEST_F(TransportTest, AnEarlierIncarnationIsRefused) {
  Node& one = Start(1);
  nodes_[2] = std::make_unique<Node>(2, &board_, &directory_, 0, [](TransportOptions* o) { o->self.incarnation = 9; });
  nodes_[2]->Connect(1);
  ASSERT_TRUE(AwaitUp(*nodes_[2], 1));
  board_.Change([&] { one.got.clear(); });
  nodes_[2] = std::make_unique<Node>(2, &board_, &directory_, 0, [](TransportOptions* o) { o->self.incarnation = 8; });
  Node& old = *nodes_[2];
  uint64_t failures = 0;
  std::function<void()> look;
  old.On(0, [&](GrpcTransport& t) {
    t.Connect(NodeId(1));
    look = [&] {
      board_.Change([&] { failures = t.figures().failures; });
      t.shard()->After(milliseconds(5), [&] { look(); });
    };
    look();
  });
  EXPECT_TRUE(board_.Await([&] { return failures >= 2; }));
  board_.Change([&] { EXPECT_EQ((old.ups[{NodeId(1), 0}]), 0); });
  nodes_.clear();
}

// One wrong frame is no reason to lose the node: it is dropped, counted, and the stream goes on.
TEST_F(TransportTest, AFrameOfAnotherIncarnationIsDropped) {
  Node& one = Start(1);
  Node& two = Start(2);
  two.Connect(1);
  ASSERT_TRUE(AwaitUp(two, 1));
  for (uint64_t incarnation : {0, 2}) {
    Frame frame = Heartbeat();
    frame.incarnation = incarnation;
    for (ShardId shard = 0; shard < kShards; ++shard) two.Send(shard, 1, frame);
  }
  for (ShardId shard = 0; shard < kShards; ++shard) two.Send(shard, 1, Heartbeat());
  ASSERT_TRUE(board_.Await([&] { return one.got.size() == kShards; }));
  board_.Change([&] {
    for (const Got& got : one.got) EXPECT_EQ(got.frame.incarnation, 1u);
    EXPECT_EQ((two.downs[{NodeId(1), 0}]), 0);
  });
  uint64_t refused[kShards] = {};
  int answers = 0;
  for (ShardId shard = 0; shard < kShards; ++shard) {
    one.On(shard, [&, shard](GrpcTransport& t) {
      board_.Change([&] {
        refused[shard] = t.figures().frames_refused;
        ++answers;
      });
    });
  }
  ASSERT_TRUE(board_.Await([&] { return answers == kShards; }));
  for (uint64_t count : refused) EXPECT_EQ(count, 2u);
}

TEST_F(TransportTest, ANodeThatMovedIsFollowed) {
  Node& one = Start(1);
  Start(2);
  one.Connect(2);
  ASSERT_TRUE(AwaitUp(one, 2));
  auto old = std::move(nodes_[2]);
  Start(2);  // at another port; the directory knows
  for (ShardId i = 0; i < kShards; ++i) one.On(i, [](GrpcTransport& t) { t.PeersChanged(); });
  ASSERT_TRUE(AwaitUp(one, 2, 2));
  one.Send(0, 2, Heartbeat());
  EXPECT_TRUE(board_.Await([&] { return !nodes_[2]->got.empty(); }));
  board_.Change([&] { EXPECT_TRUE(old->got.empty()); });
}

TEST_F(TransportTest, QueuesAreBounded) {
  Start(2);
  TransportOptions options;
  options.self = NodeIdentity{std::string(16, 'C'), NodeId(1), DirectoryId(1), 1, kShards};
  options.credentials = grpc::InsecureChannelCredentials();
  options.append_queue_bytes = 200'000;
  options.frame_bytes = 100'000;
  CompletionQueueShard shard(0);
  GrpcTransport transport(options, &shard, &directory_);
  shard.Post([&] {
    // Nothing can leave while this runs.
    for (int i = 0; i < 20; ++i) transport.Send(NodeId(2), Appends(1, 1, 90'000));
    board_.Change([&] {
      EXPECT_EQ(transport.figures().frames_sent, 2u);
      EXPECT_EQ(transport.figures().frames_dropped, 18u);
    });
    // Votes are not held up by them.
    transport.Send(NodeId(2), Heartbeat());
    EXPECT_EQ(transport.figures().frames_sent, 3u);
  });
  shard.Start();
  shard.Stop();
}

}  // namespace
}  // namespace trireme::raft
