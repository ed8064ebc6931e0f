#include "client/cli/message_text.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace trireme::client {
namespace {

bool IsText(const std::string& bytes) {
  // What JSON can carry: valid UTF-8.
  try {
    (void)Json(bytes).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

void PutBytes(Json& json, const char* name, const std::string& bytes) {
  if (IsText(bytes)) {
    json[name] = bytes;
  } else {
    json[absl::StrCat(name, "_base64")] = absl::Base64Escape(bytes);
  }
}

}  // namespace

void PutMessage(Json& json, const v1::Message& message) {
  if (!message.key().empty()) json["key"] = message.key();
  if (!message.id().empty()) json["id"] = message.id();
  for (const auto& [name, value] : message.headers()) json["headers"][name] = ValueJson(value);
  if (message.expires_at_ms() != 0) json["expires_at_ms"] = message.expires_at_ms();
  if (message.due_at_ms() != 0) json["due_at_ms"] = message.due_at_ms();
  if (message.priority() != 0) json["priority"] = message.priority();
  if (!message.reply_to().empty()) json["reply_to"] = message.reply_to();
  if (!message.correlation_id().empty()) json["correlation_id"] = message.correlation_id();
  if (!message.content_type().empty()) json["content_type"] = message.content_type();
  if (!message.routing_key().empty()) json["routing_key"] = message.routing_key();
  PutBytes(json, "body", message.body());
}

}  // namespace trireme::client
