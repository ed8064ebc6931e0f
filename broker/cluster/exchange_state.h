// The part of the metadata that says how messages are routed: exchanges and bindings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "trireme/meta/v1/meta.pb.h"
#include "trireme/v1/admin.pb.h"

namespace trireme::broker {

// Immutable once published; any thread may hold one.
struct ExchangeInfo {
  std::string name;
  uint64_t id = 0;
  trireme::v1::ExchangeSettings settings;
  int64_t created_at_ms = 0;
};
using ExchangePtr = std::shared_ptr<const ExchangeInfo>;
using BindingPtr = std::shared_ptr<const trireme::meta::v1::Binding>;
using ExchangesByName = absl::btree_map<std::string, ExchangePtr, std::less<>>;

// A binding is equal to another if all of this is. Ordered by exchange first.
struct BindingIdentity {
  std::string exchange = {};
  bool to_exchange = false;
  std::string to = {};
  std::string routing_key = {};
  std::string headers = {};  // encoded

  static BindingIdentity Of(const trireme::meta::v1::Binding& binding);
  friend auto operator<=>(const BindingIdentity&, const BindingIdentity&) = default;
};
using Bindings = absl::btree_map<BindingIdentity, BindingPtr>;

inline constexpr size_t kMaxExchanges = 10'000;
inline constexpr size_t kMaxBindings = 100'000;
inline constexpr size_t kMaxRoutingKeyBytes = 255;
inline constexpr int kMaxBindingHeaders = 32;
inline constexpr size_t kMaxBindingHeaderBytes = 4'096;

// OK if names, sizes and the order of headers are. INVALID_ARGUMENT says what is not.
absl::Status ValidateBinding(const trireme::meta::v1::Binding& binding);
absl::Status ValidateExchange(std::string_view name, const trireme::v1::ExchangeSettings& settings);

// A pure value; part of MetadataState, which see. Commands are conditional on what they meet (Safety rule 2).
class ExchangeState {
 public:
  enum class Outcome : uint8_t {
    kDone,
    kAlreadySo,       // the exchange or the binding is there
    kNoSuchExchange,  // the exchange, the alternate, or the exchange that a binding leads to
    kNoSuchQueue,
    kNoSuchBinding,
    kInUse,    // it is another's alternate, or has bindings that were to be none
    kTooMany,  // a limit above
    kInvalid,
  };
  struct Change {
    Outcome outcome = Outcome::kDone;
    // The one created, found or deleted; with kInUse the one that has it as its alternate, or null.
    ExchangePtr exchange = nullptr;
    // Created or deleted.
    std::vector<BindingPtr> bindings = {};
  };
  // A queue's group id, or 0 if there is none of that name.
  using GroupOf = absl::FunctionRef<uint64_t(std::string_view queue)>;

  Change Apply(const trireme::meta::v1::ExchangeCreated& created);
  Change Apply(const trireme::meta::v1::ExchangeDeleted& deleted);
  Change Apply(const trireme::meta::v1::BindingCreated& created, GroupOf group_of);
  Change Apply(const trireme::meta::v1::BindingDeleted& deleted);
  // The queue is gone: so are the bindings to it, which are given back.
  std::vector<BindingPtr> DropQueue(const std::string& name);

  void AddTo(trireme::meta::v1::Snapshot* snapshot) const;
  // DATA_LOSS if the snapshot contradicts itself.
  absl::Status Restore(const trireme::meta::v1::Snapshot& snapshot, GroupOf group_of);

  // Whether there ever was an exchange: what has none is written as it was before there were any.
  bool used() const { return next_id_ > 1; }
  const ExchangesByName& exchanges() const { return exchanges_; }
  const Bindings& bindings() const { return bindings_; }
  ExchangePtr Find(std::string_view name) const;
  bool Has(const trireme::meta::v1::Binding& binding) const { return bindings_.contains(BindingIdentity::Of(binding)); }
  // Of an exchange: how many start there, and how many lead there.
  size_t CountFrom(const std::string& exchange) const;
  size_t CountTo(const std::string& exchange) const;

 private:
  void Insert(BindingPtr binding);
  std::vector<BindingPtr> DropTo(bool to_exchange, const std::string& name);
  std::vector<BindingPtr> DropFrom(const std::string& exchange);

  ExchangesByName exchanges_;
  Bindings bindings_;
  uint64_t next_id_ = 1;

  // Derived: bindings by what they lead to (whether an exchange, and its name).
  absl::btree_map<std::pair<bool, std::string>, absl::btree_set<BindingIdentity>> by_destination_;
};

}  // namespace trireme::broker
