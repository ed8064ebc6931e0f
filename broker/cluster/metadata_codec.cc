#include "broker/cluster/metadata_codec.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "absl/strings/str_cat.h"
#include "raft/core/checksum.h"
#include "raft/core/coding.h"

namespace trireme::broker {
namespace {

uint32_t Checksum(uint8_t version, std::string_view body) {
  auto first = static_cast<char>(version);
  return raft::Crc32c(body, raft::Crc32c({&first, 1}));
}

}  // namespace

std::string EncodeFramed(const google::protobuf::MessageLite& message, uint8_t version) {
  // Deterministic, so that equal states give equal bytes (there are no maps in these messages, but unknown fields may
  // come with a later version).
  std::string body;
  {
    google::protobuf::io::StringOutputStream stream(&body);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  raft::Writer out;
  out.Byte(version);
  out.Fixed32(Checksum(version, body));
  out.Raw(body);
  return out.Take();
}

absl::Status DecodeFramed(std::string_view data, const char* what, google::protobuf::MessageLite* message) {
  raft::Reader in(data);
  uint8_t version = in.Byte();
  uint32_t checksum = in.Fixed32();
  if (!in.ok()) return absl::DataLossError(absl::StrCat(what, " of ", data.size(), " bytes is too short"));
  uint32_t computed = Checksum(version, in.rest());
  if (computed != checksum) {
    return absl::DataLossError(
        absl::StrCat(what, " is damaged: checksum ", absl::Hex(computed), ", expected ", absl::Hex(checksum)));
  }
  if (version == 0 || version > kMetadataVersion) {
    return absl::UnimplementedError(absl::StrCat(what, " is of version ", int{version}, "; this program knows ",
                                                 int{kMetadataVersion}, ": a newer one is needed"));
  }
  std::string_view body = in.rest();
  if (!message->ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return absl::DataLossError(absl::StrCat(what, " does not parse"));
  }
  return absl::OkStatus();
}

}  // namespace trireme::broker
