#include "raft/host/index_rows.h"

#include "raft/core/coding.h"

namespace trireme::raft {

Bytes EncodeRows(const std::vector<IndexRow>& rows) {
  Writer out;
  for (const IndexRow& row : rows) {
    out.Counted(row.key);
    out.Counted(row.value);
  }
  return Bytes::Take(out.Take());
}

std::optional<std::vector<IndexRow>> DecodeRows(std::string_view bytes, std::string_view behind) {
  std::vector<IndexRow> rows;
  for (Reader in(bytes); !in.empty();) {
    std::string_view key = in.Counted(), value = in.Counted();
    if (!in.ok() || key.empty() || key <= behind || key.size() + value.size() > kRowBytesMax) return std::nullopt;
    rows.push_back({std::string(key), std::string(value)});
    behind = key;
  }
  return rows;
}

}  // namespace trireme::raft
