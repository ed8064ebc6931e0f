#include "broker/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <set>
#include <utility>

#include "raft/core/coding.h"
#include "raft/grpc/buffers.h"

namespace trireme::broker {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using google::protobuf::internal::WireFormatLite;

// Field numbers of ServerReflectionRequest and ServerReflectionResponse.
constexpr int kHost = 1, kFileByFilename = 3, kFileContainingSymbol = 4, kListServices = 7;
constexpr int kValidHost = 1, kOriginalRequest = 2, kFileDescriptors = 4, kServices = 6, kError = 7;

void AddBytes(raft::Writer& out, int field, std::string_view value) {
  out.Varint(WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED));
  out.Counted(value);
}

std::string Failure(grpc::StatusCode code, const std::string& message) {
  raft::Writer out;
  out.Varint(WireFormatLite::MakeTag(1, WireFormatLite::WIRETYPE_VARINT));
  out.Varint(static_cast<uint64_t>(code));
  AddBytes(out, 2, message);
  return out.Take();
}

// The file and all that it imports.
void AddFile(const FileDescriptor* file, std::set<std::string>& seen, raft::Writer& out) {
  if (!seen.insert(file->name()).second) return;
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  AddBytes(out, 1, proto.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) AddFile(file->dependency(i), seen, out);
}

class Handler final : public raft::StreamHandler {
 public:
  Handler(raft::RawServerStream* stream, const std::vector<std::string>* services)
      : stream_(stream), services_(services) {}

  void OnMessage(grpc::ByteBuffer message) override {
    absl::StatusOr<raft::Bytes> bytes = raft::FromBuffer(message);
    std::string answer = bytes.ok() ? AnswerReflection(bytes->view(), *services_) : "";
    if (answer.empty()) {
      return stream_->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not a ServerReflectionRequest"));
    }
    if (!stream_->Write(raft::ToBuffer(raft::Bytes::Take(std::move(answer))))) {
      stream_->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "answers are not being read"));
    }
  }
  void OnReadEnd() override { stream_->Finish(grpc::Status::OK); }
  void OnClosed(const grpc::Status&) override {}

 private:
  raft::RawServerStream* const stream_;
  const std::vector<std::string>* const services_;
};

}  // namespace

std::string AnswerReflection(std::string_view request, const std::vector<std::string>& services) {
  int field = 0;
  std::string host, argument;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(request.data()),
                                            static_cast<int>(request.size()));
  while (uint32_t tag = in.ReadTag()) {
    int number = WireFormatLite::GetTagFieldNumber(tag);
    if (WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&in, tag)) return "";
      continue;
    }
    std::string value;
    if (!WireFormatLite::ReadBytes(&in, &value)) return "";
    if (number == kHost) {
      host = std::move(value);
    } else {
      field = number;
      argument = std::move(value);
    }
  }
  if (!in.ConsumedEntireMessage()) return "";

  raft::Writer out;
  AddBytes(out, kValidHost, host);
  AddBytes(out, kOriginalRequest, request);
  if (field == kListServices) {
    raft::Writer list;
    for (const std::string& name : services) {
      raft::Writer one;
      AddBytes(one, 1, name);
      AddBytes(list, 1, one.bytes());
    }
    AddBytes(out, kServices, list.bytes());
  } else if (field == kFileByFilename || field == kFileContainingSymbol) {
    const DescriptorPool* pool = DescriptorPool::generated_pool();
    const FileDescriptor* file =
        field == kFileByFilename ? pool->FindFileByName(argument) : pool->FindFileContainingSymbol(argument);
    if (file == nullptr) {
      AddBytes(out, kError, Failure(grpc::StatusCode::NOT_FOUND, "not known: " + argument));
    } else {
      raft::Writer files;
      std::set<std::string> seen;
      AddFile(file, seen, files);
      AddBytes(out, kFileDescriptors, files.bytes());
    }
  } else {
    AddBytes(out, kError, Failure(grpc::StatusCode::UNIMPLEMENTED, "this kind of request is not answered"));
  }
  return out.Take();
}

void RegisterReflection(raft::RawService& service, std::vector<std::string> services) {
  auto shared = std::make_shared<const std::vector<std::string>>(std::move(services));
  for (const char* version : {"v1", "v1alpha"}) {
    service.Handle(std::string("/grpc.reflection.") + version + ".ServerReflection/ServerReflectionInfo",
                   [shared](raft::RawServerStream* stream) { return std::make_unique<Handler>(stream, shared.get()); });
  }
}

}  // namespace trireme::broker
