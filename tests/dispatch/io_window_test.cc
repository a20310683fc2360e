// IoWindow: what is left of an iovec after partial progress.
#include "shim/dispatch/io_window.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace userstack::shim {
namespace {

std::string Text(const IoVector& part) {
  std::string text;
  for (size_t i = 0; i < part.count(); ++i) {
    text.append(static_cast<const char*>(part.entries()[i].iov_base), part.entries()[i].iov_len);
  }
  return text;
}

TEST(IoWindow, GivesTheWholeByteByByteWhateverTheStep) {
  // Forty entries, some empty: more than one part holds.
  std::string whole;
  std::vector<std::string> pieces;
  for (int i = 0; i < 40; ++i) pieces.emplace_back(static_cast<size_t>(i % 4), 'a' + i % 26);
  std::vector<iovec> entries;
  for (std::string& piece : pieces) {
    entries.push_back({piece.data(), piece.size()});
    whole += piece;
  }
  for (size_t step = 1; step <= whole.size(); ++step) {
    IoWindow window(IoVector(entries.data(), entries.size()));
    std::string seen;
    while (window.left() != 0) {
      bool last = false;
      const std::string part = Text(window.Part(&last));
      ASSERT_FALSE(part.empty());
      ASSERT_EQ(last, part.size() == window.left()) << "step " << step;
      const size_t n = std::min(step, part.size());
      seen += part.substr(0, n);
      window.Advance(n);
    }
    EXPECT_EQ(seen, whole) << "step " << step;
  }
}

}  // namespace
}  // namespace userstack::shim
